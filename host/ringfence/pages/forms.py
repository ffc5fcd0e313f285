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


def is_outdated(form: Mapping[str, str], given: Mapping[str, str]) -> bool:
    """Whether a form was shown when what it is about was not as it is now, which is `given`."""
    return form.get(SEEN, version_of(given)) != version_of(given)
