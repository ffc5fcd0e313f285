"""One network of names for all tests here, and both kinds of supervisors in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import world as worlds
from tests.names_world import NamesWorld, names_world


@pytest.fixture(scope="package", name="names")
def one_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NamesWorld]:
    with names_world(tmp_path_factory.mktemp("names")) as made:
        yield made


@pytest.fixture(
    params=[
        # The rows of a table are by the one or the other, in turn.
        pytest.param(uid, id=name, marks=pytest.mark.in_turn("uid"))
        for uid, name in zip(worlds.SUPERVISORS, ("root", "unprivileged"), strict=True)
    ]
)
def uid(request: pytest.FixtureRequest) -> int:
    """The supervisor's uid: both supervisors that are supported."""
    chosen: int = request.param
    worlds.need_supervisor(chosen)
    return chosen
