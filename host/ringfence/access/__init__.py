"""Who may do what: access rules that plugins declare, API tokens that hold them, and a record of who came."""

from ringfence.access.audit import ACCESS_HOOKS, Audit
from ringfence.access.principals import Principals, TokenHolder
from ringfence.access.rules import AccessError, AccessRule, Grant, Principal
from ringfence.access.sign_in import SignIn, TooManyFailuresError
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
    "Principal",
    "Principals",
    "SignIn",
    "TokenHolder",
    "TokenNameTakenError",
    "TooManyFailuresError",
    "UnknownTokenError",
    "digest",
    "new_secret",
]
