"""The web side of the host: what plugins need to serve routes that are guarded and fail in one way."""

from ringfence.web.guard import Caller, Principal, require, require_on
from ringfence.web.problems import Problem
from ringfence.web.websocket import DirectWrites, TextMessage, direct_writes

__all__ = [
    "Caller",
    "DirectWrites",
    "Principal",
    "Problem",
    "TextMessage",
    "direct_writes",
    "require",
    "require_on",
]
