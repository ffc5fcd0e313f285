"""The hook that the secrets plugin emits. It tells names, and never values."""

from __future__ import annotations

import enum

from pydantic import BaseModel, ConfigDict
from ringfence import Hook


class SecretChange(enum.StrEnum):
    """What became of a secret."""

    SET = "set"
    DELETED = "deleted"


class SecretChanged(BaseModel):
    """A secret has a new value, or is gone."""

    model_config = ConfigDict(frozen=True)

    name: str
    change: SecretChange


secret_changed = Hook("secret-changed", SecretChanged, payload_rule="secrets.secret.manage")
