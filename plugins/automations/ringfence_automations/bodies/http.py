"""What `http` says: a request, and which answers are well."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    StringConstraints,
    model_validator,
)
from ringfence import WireModel
from ringfence.bounded import STORABLE, Text

from ringfence_automations.bodies.marked import BRACES, Templated, TemplatedJson, TemplatedWithSecrets

CAUSE = "Ringfence-Cause"
"""The header that tells a webhook of this host which run its request comes from: the run's id."""
MOST_HEADERS = 50
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
"""What a header may be called (RFC 9110, section 5.6.2)."""
_OF_THE_CONNECTION = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te"})
_CLASS = re.compile(r"[1-5]xx")


def _header(name: str) -> str:
    if _TOKEN.fullmatch(name) is None:
        raise ValueError(f"{name!r} cannot be a header's name")
    if name.lower() in _OF_THE_CONNECTION:
        raise ValueError(f"the header {name} is set by what performs the request")
    return name


def _status(given: int | str) -> int | str:
    if isinstance(given, str) and _CLASS.fullmatch(given) is None:
        raise ValueError("a class of statuses is written as in 2xx")
    if isinstance(given, int) and not 100 <= given <= 599:
        raise ValueError("a status is a number from 100 to 599")
    return given


def _names_its_host(url: str) -> bool:
    """Whether all before the path is no template, and so the same whatever is filled in."""
    scheme, _, rest = url.partition("://")
    return BRACES not in scheme + rest.partition("/")[0]


Header = Annotated[str, AfterValidator(_header)]
Status = Annotated[StrictInt | StrictStr, AfterValidator(_status)]


class Tls(WireModel):
    """How the server is known: by the authorities in `ca` (PEM) in place of those of the host; or not at all."""

    model_config = ConfigDict(extra="forbid")

    ca: Annotated[str, StringConstraints(max_length=256 * 1024), STORABLE] | None = None
    verify: StrictBool = True


class Http(WireModel):
    """A request. Redirects are not followed: the answer that says so is the answer."""

    model_config = ConfigDict(extra="forbid")

    url: Templated
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] | None = None
    headers: Annotated[dict[Header, TemplatedWithSecrets], Field(max_length=MOST_HEADERS)] = Field(
        default_factory=dict
    )
    body: Templated | None = None
    json_: Annotated[TemplatedJson, Field(alias="json")] = None
    expect: Annotated[tuple[Status, ...], Field(min_length=1, max_length=50)] = ("2xx",)
    tls: Tls = Field(default_factory=Tls)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.body is not None and self.json_ is not None:
            raise ValueError("a request has either a body or json, not both")
        if any(text.names for text in self.headers.values()) and not _names_its_host(self.url):
            raise ValueError(
                "the url must name its host without a template, since the headers hold secrets: what is filled in "
                "could have them sent elsewhere"
            )
        return self

    def is_expected(self, status: int) -> bool:
        """Whether an answer with this status is well."""
        return any(status == one or f"{status // 100}xx" == one for one in self.expect)


class Target(WireModel):
    """Where a request goes: the host and port that the sandbox must let it reach."""

    scheme: Literal["http", "https"]
    host: Text
    port: StrictInt

    @classmethod
    def of(cls, url: str) -> Target:
        """That of an address. Raises `ValueError`, which does not quote it."""
        if any(each.isspace() or not each.isprintable() for each in url):
            raise ValueError("the url holds a space or a control character")
        split = urlsplit(url)
        if split.scheme not in ("http", "https") or not split.hostname:
            raise ValueError("the url must begin with http:// or https:// and name a host")
        if split.username is not None or split.password is not None:
            raise ValueError("the url must not hold a name or a password: put them into a header")
        port = split.port if split.port is not None else {"http": 80, "https": 443}[split.scheme]
        return cls(scheme=split.scheme, host=split.hostname, port=port)

    @property
    def entry(self) -> str:
        """The destination as a policy names it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
