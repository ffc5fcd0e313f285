"""What somebody can do where a page went wrong: words, and places to go on from there. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from ringfence.access import Principal
from ringfence.http.problems import Problem
from ringfence.pages.declared import Page
from ringfence.pages.site import Link, Site, may

RELOAD_SECONDS = 5
_ADVICE: Mapping[int, str] = {
    401: "Sign in, and you come back to this page.",
    403: "Ask an administrator for a token with this rule.",
    404: "It may have been removed, or the address may be mistyped. The list that it was in says what there is.",
    409: "It has changed since the page was loaded. Go back, reload, and decide again.",
    413: "Go back, and enter a shorter text.",
    415: "Go back, and use the form of the page.",
    421: "Use one of the addresses in RINGFENCE_ALLOWED_HOSTS.",
    422: "Go back, and correct what is named above.",
    429: "This is not your mistake: wait, and try again.",
    503: "The page reloads by itself until the host answers.",
}


@dataclass(frozen=True, slots=True)
class WaysOn:
    """What to do, where to go, and after how many seconds to load the page again, if at all."""

    advice: str | None
    links: list[Link]
    reload: int | None


def ways_on(
    problem: Problem, principal: Principal | None, above: Link | None, *, path: str, method: str
) -> WaysOn:
    """The ways on from a problem with the page at `path`; `above` is the nearest page that is there."""
    links = []
    advice = _ADVICE.get(problem.status)
    if (seconds := problem.headers.get("Retry-After")) is not None:
        advice = f"Wait {seconds} seconds, and do it again."
    if problem.status == 401 or principal is None:
        links.append(Link("Sign in", "/sign-in"))
    else:
        if above is not None:
            links.append(above)
        if problem.status == 403 and may(principal, "host.token.manage"):
            links.append(Link("Create a token that may do it", "/tokens/new"))
        if path != "/":
            links.append(Link("Go to the overview", "/"))
    waits = method == "GET" and problem.status == 503
    return WaysOn(advice, links, RELOAD_SECONDS if waits else None)


def pages_above(
    site: Site, principal: Principal, path: str, *, asked: bool
) -> Iterator[tuple[Page, str, Mapping[str, str]]]:
    """The pages above a path that somebody may see, the nearest first, each with its place and the names in that.

    Where a form was sent, the page at the path itself is one of them.
    """
    steps = path.rstrip("/").split("/")
    pages = [part.shown for part in site.pages.values() if isinstance(part.shown, Page)]
    for length in range(len(steps) - asked, 1, -1):
        place = "/".join(steps[:length])
        # Words go before names in their places, as where pages are served.
        for page in sorted(pages, key=lambda page: page.path.replace("{", "~")):
            found = re.fullmatch(re.sub(r"{([^}]*)}", r"(?P<\1>[^/]+)", page.path), place)
            if found is not None and may(principal, page.rule):
                yield page, place, {name: unquote(value) for name, value in found.groupdict().items()}
                break
