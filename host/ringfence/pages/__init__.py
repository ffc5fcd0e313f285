"""Pages for people: what a plugin declares of them, and what the functions behind them are handed."""

from ringfence.pages.declared import (
    Action,
    Again,
    Command,
    Page,
    Pages,
    PagesError,
    Panel,
    Redirect,
    View,
)

__all__ = ["Action", "Again", "Command", "Page", "Pages", "PagesError", "Panel", "Redirect", "View"]
