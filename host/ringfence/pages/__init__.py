"""Pages for people: what a plugin declares of them, and what the functions behind them are handed."""

from ringfence.pages.declared import (
    Action,
    Again,
    Attention,
    Command,
    Count,
    Data,
    Found,
    Page,
    Pages,
    PagesError,
    Panel,
    Redirect,
    View,
)
from ringfence.pages.forms import OutdatedFormError, exact, require_current, version_of
from ringfence.pages.rendering import spelt_out

__all__ = [
    "Action",
    "Again",
    "Attention",
    "Command",
    "Count",
    "Data",
    "Found",
    "OutdatedFormError",
    "Page",
    "Pages",
    "PagesError",
    "Panel",
    "Redirect",
    "View",
    "exact",
    "require_current",
    "spelt_out",
    "version_of",
]
