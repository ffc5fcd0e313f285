"""The settings, from the models that read them."""

from __future__ import annotations

from itertools import groupby

from ringfence.plugins.discovery import discover
from ringfence.plugins.lifecycle import Lifecycle
from ringfence.plugins.services import ServiceDirectory
from ringfence.settings import Setting

from tools.site.tables import code, table

_OF = {
    "host": "The host",
    "commands": "Commands, and what hosts and agents share with them",
    "agent": "A satellite's agent",
    "scripts": "Scripts",
    "sandbox": "The sandbox",
}
_HEAD = """# Settings

Settings are environment variables. What the environment does not set, a settings file may: `ringfence.toml`
in the data directory, or the file that `RINGFENCE_CONFIG` names. A line of it is `port = 9000`: the
variable's name without `RINGFENCE_`, in small letters. `ringfence settings` lists all of them with the value
that each has, and where it comes from.

"""


def every() -> tuple[Setting, ...]:
    """Every setting there is."""
    return Lifecycle(discover(), ServiceDirectory()).settings()


def page() -> str:
    """The page."""
    parts = []
    for owner, settings in groupby(every(), key=lambda one: one.owner):
        rows = [(code(one.variable), _default(one), one.description) for one in settings]
        parts.append(
            f"## {_OF.get(owner, f'The plugin {owner}')}\n\n{table(('variable', 'default', 'meaning'), rows)}"
        )
    return _HEAD + "\n".join(parts)


def _default(setting: Setting) -> str:
    return "" if setting.default in (None, "") else str(setting.default)
