"""Who a process is: a uid and a gid."""

from __future__ import annotations

from typing import NamedTuple


class Identity(NamedTuple):
    """The uid and gid that a child is given."""

    uid: int
    gid: int
