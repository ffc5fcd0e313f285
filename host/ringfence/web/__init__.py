"""The web side of the host: what plugins need to serve routes that are guarded and fail in one way."""

from ringfence.http.allowances import Allowances
from ringfence.http.bodies import read_body
from ringfence.http.guard import Caller, Principal, peer_of, require, require_on
from ringfence.http.paging import (
    DEFAULT_LISTED,
    MAX_LISTED,
    After,
    Limit,
    Page,
    cursor,
    not_a_cursor,
    number_of,
    page,
    parts_of,
)
from ringfence.http.problems import Problem, not_valid
from ringfence.http.routes import Router
from ringfence.web.websocket import DirectWrites, TextMessage, direct_writes

__all__ = [
    "DEFAULT_LISTED",
    "MAX_LISTED",
    "After",
    "Allowances",
    "Caller",
    "DirectWrites",
    "Limit",
    "Page",
    "Principal",
    "Problem",
    "Router",
    "TextMessage",
    "cursor",
    "direct_writes",
    "not_a_cursor",
    "not_valid",
    "number_of",
    "page",
    "parts_of",
    "peer_of",
    "read_body",
    "require",
    "require_on",
]
