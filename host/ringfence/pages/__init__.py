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

__all__ = [
    "Action",
    "Again",
    "Attention",
    "Command",
    "Count",
    "Data",
    "Found",
    "Page",
    "Pages",
    "PagesError",
    "Panel",
    "Redirect",
    "View",
]
