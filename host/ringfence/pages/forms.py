"""What forms show of things that there are, so that sending one back untouched changes nothing. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

SEEN = "seen"
"""The hidden field in which a form sends back what `version_of` said when it was shown."""
_WHOLE = 1e15
"""Below it, every whole number is exact as a float."""


def exact(number: float) -> str:
    """A number as a form shows it: read again, it is the same number."""
    return str(int(number)) if float(number).is_integer() and abs(number) < _WHOLE else repr(number)


def version_of(given: Mapping[str, str]) -> str:
    """Another text for other fields: a form that was shown with others is about what somebody has changed since."""
    told = json.dumps(sorted(given.items()))
    return hashlib.sha256(told.encode(errors="surrogatepass")).hexdigest()[:32]


class OutdatedFormError(RuntimeError):
    """Somebody has changed what a form is about since it was shown."""


def require_current(form: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Refuse a form that was shown when what it is about was not as it is now, which is `given`.

    Of two that are sent at once, one is only refused if this is asked where nobody else can write: with the row locked,
    in the transaction that writes it. Raises `OutdatedFormError`.
    """
    if form.get(SEEN, version_of(given)) != version_of(given):
        raise OutdatedFormError
