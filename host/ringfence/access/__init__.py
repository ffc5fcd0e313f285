"""Who may do what: access rules that plugins declare, API tokens that hold them, and a record of who came."""

from ringfence.access.audit import ACCESS_HOOKS, Audit
from ringfence.access.principals import Principals, TokenHolder
from ringfence.access.rules import AccessError, AccessRule, Grant, Principal
from ringfence.access.sessions import Limits, ListedSession, Session, Sessions, UnknownSessionError
from ringfence.access.sign_in import SignIn, TooManyFailuresError, TooManySessionsError
from ringfence.access.tokens import (
    Access,
    ApiToken,
    Identity,
    LastHolderError,
    TokenNameTakenError,
    UnknownTokenError,
    digest,
    new_secret,
)

__all__ = [
    "ACCESS_HOOKS",
    "Access",
    "AccessError",
    "AccessRule",
    "ApiToken",
    "Audit",
    "Grant",
    "Identity",
    "LastHolderError",
    "Limits",
    "ListedSession",
    "Principal",
    "Principals",
    "Session",
    "Sessions",
    "SignIn",
    "TokenHolder",
    "TokenNameTakenError",
    "TooManyFailuresError",
    "TooManySessionsError",
    "UnknownSessionError",
    "UnknownTokenError",
    "digest",
    "new_secret",
]
