"""Which wrapper makes the rooms: a setting of the host, read from its environment."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping

SETTING = "RINGFENCE_WRAPPER"


class WrapperKind(enum.StrEnum):
    """The wrappers that there are."""

    BUBBLEWRAP = "bubblewrap"
    NSJAIL = "nsjail"


class WrapperSettingError(ValueError):
    """The setting names no wrapper; the message says which there are."""


def chosen(environment: Mapping[str, str] = os.environ) -> WrapperKind:
    """The wrapper that the setting names; bubblewrap if it names none.

    Raises:
        WrapperSettingError: if it names something else.
    """
    text = environment.get(SETTING) or WrapperKind.BUBBLEWRAP.value
    try:
        return WrapperKind(text)
    except ValueError:
        raise WrapperSettingError(f"{SETTING} must be {' or '.join(WrapperKind)}, not {text!r}") from None
