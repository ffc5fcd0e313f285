"""All pages of the plugin, declared together."""

from __future__ import annotations

from ringfence.pages import Pages

from ringfence_script_packages.pages.history import HistoryPages
from ringfence_script_packages.pages.overview import PolicyOverview
from ringfence_script_packages.pages.policy import PolicyPage


def pages(policy: PolicyPage, history: HistoryPages, overview: PolicyOverview) -> Pages:
    """What the plugin adds."""
    return Pages(
        package="ringfence_script_packages.pages",
        pages=[*policy.pages(), *history.pages()],
        actions=[*policy.actions(), *history.actions()],
        data=policy.data(),
        commands=[*policy.commands(), *history.commands()],
        attention=overview.attention,
        counts=overview.counts,
        find=overview.find,
    )
