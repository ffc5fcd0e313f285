"""The pages of packages: what is allowed, the sets, their locks, and how far satellites are with them."""

from __future__ import annotations

from ringfence import AccessRule
from ringfence.pages import Action, Command, Data, Page, Pages, Panel

from ringfence_script_packages.pages import PACKAGE
from ringfence_script_packages.pages.packages.allowed import AllowedPages
from ringfence_script_packages.pages.packages.attention import Noticing
from ringfence_script_packages.pages.packages.following import Following
from ringfence_script_packages.pages.packages.sets import SetPages

__all__ = ["AllowedPages", "Following", "Noticing", "SetPages", "pages_of"]

LIVE = (
    "script-packages-allowed",
    "script-packages-requested",
    "script-packages-changed",
    "script-packages-failed",
    "script-packages-vulnerable",
)


def pages_of(
    read: AccessRule,
    manage: AccessRule,
    allowed: AllowedPages,
    sets: SetPages,
    following: Following,
    noticing: Noticing,
) -> Pages:
    """All of them."""
    one = "/packages/sets/{name}"
    return Pages(
        package=PACKAGE,
        pages=[
            Page(
                path="/packages",
                title="Packages",
                template="packages.html",
                show=allowed.show,
                rule=read,
                group="Configuration",
                order=62,
                live=LIVE,
            ),
            Page(
                path="/packages/sets",
                title="Sets of packages",
                template="sets.html",
                show=sets.listed,
                rule=read,
                live=LIVE,
            ),
            Page(
                path=one,
                title="Set of packages",
                template="set.html",
                show=sets.show,
                rule=read,
                live=LIVE,
                held=sets.held,
            ),
        ],
        panels=[
            Panel(
                name="packages-of-satellite",
                on="/satellites/{id}",
                title="Packages",
                template="packages-of-satellite.html",
                show=sets.of_machine,
                rule=read,
                order=60,
                live=("script-packages-changed",),
            )
        ],
        actions=[
            Action(path="/packages/allow", title="Allow packages", do=allowed.allow, rule=manage),
            Action(path="/packages/remove", title="Remove a package", do=allowed.remove, rule=manage),
            Action(path="/packages/audit", title="Audit now", do=allowed.audit, rule=manage),
            Action(path="/packages/collect", title="Delete unused files", do=allowed.collect, rule=manage),
            Action(path=f"{one}/install", title="Install a set", do=sets.install, rule=manage),
            Action(path=f"{one}/delete", title="Delete a set", do=sets.delete, rule=manage),
        ],
        data=[Data(path=f"{one}/progress", answer=following.answer, rule=read)],
        commands=[
            Command(words="Allow a package", to="/packages#allow", rule=manage),
            Command(
                words="Install the default set of packages",
                to="/packages/sets/default/install",
                rule=manage,
                form={},
                ask="The packages that are allowed in the default set are installed for all scripts. Continue?",
            ),
            Command(words="See vulnerabilities of packages", to="/packages#audit", rule=read),
        ],
        attention=noticing.attention,
        counts=noticing.counts,
        find=noticing.find,
    )
