"""The reference: pages that are written from the code each time the site is built, so that none can be out of date."""

from __future__ import annotations

from ringfence.host import Host

from tools.site.reference import api, commands, documents, events, policy, protocol, settings

NAMES = ("commands", "settings", "policy", "api", "documents", "events", "protocol")


def pages(host: Host) -> dict[str, str]:
    """Every page by its name on the site. What plugins bring is asked of a host that runs."""
    return {
        "reference/commands.md": commands.page(),
        "reference/settings.md": settings.page(),
        "reference/policy.md": policy.page(),
        "reference/api.md": api.page(host.app.openapi()),
        "reference/documents.md": documents.page(host),
        "reference/events.md": events.page(host),
        "reference/protocol.md": protocol.page(),
    }
