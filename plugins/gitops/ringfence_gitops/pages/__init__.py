"""The pages of git repositories: which are followed, how that goes, and what is released from them."""

from __future__ import annotations

from ringfence.pages import Action, Command, Page, Pages

from ringfence_gitops.access_rules import AccessRules
from ringfence_gitops.pages.sources import SourcePages

__all__ = ["SourcePages", "pages_of"]

LIVE = ("gitops-synced", "gitops-failed", "gitops-source-changed", "gitops-object-released")


def pages_of(pages: SourcePages, rules: AccessRules) -> Pages:
    """All of them."""
    base, one = "/gitops", "/gitops/{name}"
    manage, sync, release = rules.manage, rules.sync, rules.release
    return Pages(
        package="ringfence_gitops.pages",
        pages=[
            Page(
                path=base,
                title="Git repositories",
                template="gitops.html",
                show=pages.listed,
                rule=rules.read,
                group="Configuration",
                order=66,
                live=LIVE,
            ),
            Page(
                path=one,
                title="Git repository",
                template="source.html",
                show=pages.show,
                rule=rules.read,
                live=LIVE,
            ),
        ],
        actions=[
            Action(path=base, title="Follow a repository", do=pages.add, rule=manage),
            Action(path=one, title="Change how it is followed", do=pages.change, rule=manage),
            Action(path=f"{one}/sync", title="Follow it now", do=pages.sync, rule=sync),
            Action(path=f"{one}/webhook", title="Make a webhook", do=pages.make_webhook, rule=manage),
            Action(path=f"{one}/remove", title="Follow it no more", do=pages.remove, rule=manage),
            Action(
                path=f"{base}/released/release", title="Release an object", do=pages.release, rule=release
            ),
            Action(
                path=f"{base}/released/back", title="Give an object back", do=pages.give_back, rule=release
            ),
        ],
        commands=[Command(words="Follow a git repository", to=f"{base}#add", rule=manage)],
        attention=pages.attention,
        counts=pages.counts,
        find=pages.find,
    )
