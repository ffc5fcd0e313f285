"""The web side of the host: what plugins need to serve routes that are guarded and fail in one way."""

from ringfence.web.guard import Principal, require
from ringfence.web.problems import Problem

__all__ = ["Principal", "Problem", "require"]
