"""What somebody can do where a page went wrong: words, and places to go on from there. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

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


def ways_on(problem: Problem, site: Site, principal: Principal | None, *, path: str, method: str) -> WaysOn:
    """The ways on from a problem with the page at `path`."""
    links = []
    advice = _ADVICE.get(problem.status)
    if (seconds := problem.headers.get("Retry-After")) is not None:
        advice = f"Wait {seconds} seconds, and do it again."
    if problem.status == 401 or principal is None:
        links.append(Link("Sign in", "/sign-in"))
    else:
        if (above := _above(site, principal, path, asked=method == "GET")) is not None:
            links.append(above)
        if problem.status == 403 and may(principal, "host.token.manage"):
            links.append(Link("Create a token that may do it", "/tokens/new"))
        if path != "/":
            links.append(Link("Go to the overview", "/"))
    waits = method == "GET" and problem.status == 503
    return WaysOn(advice, links, RELOAD_SECONDS if waits else None)


def _above(site: Site, principal: Principal, path: str, *, asked: bool) -> Link | None:
    """The nearest page above a path that somebody may see; where a form was sent, also the one at the path itself."""
    steps = path.rstrip("/").split("/")
    for length in range(len(steps) - asked, 1, -1):
        place = "/".join(steps[:length])
        for part in site.pages.values():
            page = part.shown
            if (
                isinstance(page, Page)
                and re.fullmatch(re.sub(r"{[^}]*}", "[^/]+", page.path), place)
                and may(principal, page.rule)
            ):
                return Link(f"Go to: {page.title}", place)
    return None
