"""What a secret's name and its value must be. Pure."""

from __future__ import annotations

from ringfence.sandbox.plan.environment import may_pass
from ringfence.scripts import MIN_SECRET

from ringfence_secrets.service import NAME

MAX_VALUE = 32 * 1024
"""The longest value in characters. A run's environment is bounded by the system; keys and certificates fit well."""


class WrongNameError(ValueError):
    """No secret can be called so; the message says why, and repeats the name."""


class WrongValueError(ValueError):
    """No secret can have this value; the message says why, and never holds it."""


def check_name(name: str) -> None:
    """Raise `WrongNameError` where no secret can be called so."""
    if NAME.fullmatch(name) is None:
        raise WrongNameError(
            f"{name!r} is not a valid name for a secret: use letters, digits, hyphens and underscores, such as "
            "API_TOKEN or db-password"
        )
    # One that is no variable's name is given in a variable of another name.
    if name.isidentifier() and not may_pass(name):
        raise WrongNameError(f"the sandbox does not pass a variable {name} to scripts: choose another name")


def check_value(value: str) -> None:
    """Raise `WrongValueError` where no secret can have this value."""
    if not len(value.strip()) >= MIN_SECRET or len(value) > MAX_VALUE:
        raise WrongValueError(
            f"a secret has {MIN_SECRET} to {MAX_VALUE} characters: a shorter one could not be told from other text "
            "when output is masked"
        )
