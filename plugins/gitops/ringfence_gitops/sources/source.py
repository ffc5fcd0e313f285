"""A source: a git repository that is followed, as people write it and as it is kept."""

from __future__ import annotations

import datetime as dt
import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field, StrictBool, StringConstraints, model_validator
from ringfence import WireModel
from ringfence.bounded import STORABLE

from ringfence_gitops.remotes.address import AddressError, branch_of, folder_of, remote_of
from ringfence_gitops.remotes.commit import SHORT

PREFIX = "git:"
"""How the sources of this plugin begin, as objects are noted to belong to them: `git:shop@4f2a…`."""
MOST_KEYS = 20_000
_NAMED = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"
_SIGNER = re.compile(r"\S+\s+(?:\S+\s+)?(?:ssh-|ecdsa-|sk-)\S+\s+[A-Za-z0-9+/=]+.*")

SourceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
SecretName = Annotated[str, StringConstraints(pattern=_NAMED)]
Keys = Annotated[str, StringConstraints(max_length=MOST_KEYS), STORABLE]


class Deletion(enum.StrEnum):
    """What becomes of an object whose document is gone."""

    ORPHAN = "orphan"
    """It stays, and belongs to nobody."""
    PRUNE = "prune"
    """It is removed."""


def _address(url: str) -> str:
    try:
        return remote_of(url).url
    except AddressError as error:
        raise ValueError(str(error)) from None


class SourceSpec(WireModel):
    """What is wanted of a source. `tokenSecret`, `sshKeySecret` and `webhookSecret` are names of secrets.

    With `allowedSigners` (lines as ssh-keygen(1) has them) or `gpgKeys` (public keys in ASCII armour), the newest
    commit must be signed by one of them.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    url: Annotated[str, AfterValidator(_address)]
    branch: Annotated[str, AfterValidator(branch_of)] = "main"
    path: Annotated[str, AfterValidator(folder_of)] = ""
    interval_seconds: Annotated[int, Field(strict=True, ge=30, le=86_400)] = 300
    username: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x20:\x7f]{1,64}$"), STORABLE] = "git"
    token_secret: SecretName | None = None
    ssh_key_secret: SecretName | None = None
    known_hosts: Keys | None = None
    allowed_signers: Keys | None = None
    gpg_keys: Keys | None = None
    webhook_secret: SecretName | None = None
    deletion: Deletion = Deletion.ORPHAN
    enabled: StrictBool = True

    @model_validator(mode="after")
    def _fits(self) -> SourceSpec:
        scheme = self.url.partition("://")[0]
        if scheme == "ssh":
            if self.token_secret is not None:
                raise ValueError("a token is for https: name the key in sshKeySecret")
            if self.ssh_key_secret is None or not (self.known_hosts or "").strip():
                raise ValueError(
                    "ssh needs sshKeySecret, and in knownHosts the keys of the host (ssh-keyscan)"
                )
        elif self.ssh_key_secret is not None or self.known_hosts is not None:
            raise ValueError("a key of ssh and known hosts are for ssh:// alone")
        for line in (self.allowed_signers or "").splitlines():
            if (said := line.strip()) and not said.startswith("#") and _SIGNER.fullmatch(said) is None:
                raise ValueError("allowedSigners has lines such as: ann@example.org ssh-ed25519 AAAA…")
        if self.allowed_signers is not None and not _said(self.allowed_signers):
            raise ValueError("allowedSigners names nobody")
        if self.gpg_keys is not None and "BEGIN PGP PUBLIC KEY BLOCK" not in self.gpg_keys:
            raise ValueError("gpgKeys are public keys in ASCII armour")
        return self

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The secrets that it names."""
        named = (self.token_secret, self.ssh_key_secret, self.webhook_secret)
        return tuple(sorted({one for one in named if one is not None}))

    def to_wire(self) -> dict[str, Any]:
        """The same as JSON."""
        return self.model_dump(mode="json", by_alias=True)


class Status(enum.StrEnum):
    """How following a source goes."""

    NEW = "new"
    SYNCED = "synced"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Source:
    """A source as it is kept, with what came of the last look at its repository."""

    id: UUID
    name: str
    revision: int
    spec: SourceSpec
    acts_for: str
    token: str
    created_at: dt.datetime
    created_by: str
    updated_at: dt.datetime
    updated_by: str
    status: Status
    commit: str | None
    subject: str | None
    author: str | None
    signer: str | None
    committed_at: dt.datetime | None
    objects: int
    synced_at: dt.datetime | None
    tried_at: dt.datetime | None
    failing_since: dt.datetime | None
    error: str | None
    findings: Sequence[Mapping[str, Any]]
    has_webhook: bool
    webhook_used_at: dt.datetime | None

    @property
    def owner(self) -> str:
        """What its objects belong to."""
        return owner_of_name(self.name)

    def to_wire(self) -> dict[str, Any]:
        """The same as JSON for the API."""
        return {
            "name": self.name,
            **self.spec.to_wire(),
            "actsFor": self.acts_for,
            "createdAt": self.created_at,
            "createdBy": self.created_by,
            "updatedAt": self.updated_at,
            "updatedBy": self.updated_by,
            "status": self.status.value,
            "commit": self.commit,
            "subject": self.subject,
            "author": self.author,
            "signedBy": self.signer,
            "committedAt": self.committed_at,
            "objects": self.objects,
            "syncedAt": self.synced_at,
            "triedAt": self.tried_at,
            "failingSince": self.failing_since,
            "error": self.error,
            "findings": list(self.findings),
            "webhook": self.has_webhook,
            "webhookUsedAt": self.webhook_used_at,
        }


def owner_of_name(name: str) -> str:
    """What the objects of a source belong to."""
    return f"{PREFIX}{name}"


def name_of_owner(source: str) -> str:
    """The name of the source, of what its objects belong to, with or without the commit."""
    return source.removeprefix(PREFIX).partition("@")[0]


def shortened(commit: str | None) -> str:
    """A commit's id as people read it."""
    return (commit or "")[:SHORT]


def _said(text: str) -> bool:
    return any(line.strip() and not line.strip().startswith("#") for line in text.splitlines())
