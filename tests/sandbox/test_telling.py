"""What is made of a wrapper's lines, however they come."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox.launch.supervision.telling import Telling

INIT = b'{"child-pid": 7}'
TOLD = INIT + b'\n{"mnt-namespace": 1}\n{"exit-code": 3}\n'


@given(st.lists(st.integers(0, len(TOLD))))
def test_lines_may_come_in_any_pieces(cuts: list[int]) -> None:
    telling = Telling()
    first: list[bytes | None] = []
    codes: list[int] = []
    places = [0, *sorted(cuts), len(TOLD)]
    for start, end in itertools.pairwise(places):
        telling.hear(TOLD[start:end])
        first.append(telling.first())
        codes.extend(telling.exit_codes())
    assert [line for line in first if line is not None] == [INIT]
    assert codes == [3]
    assert not telling.is_amid_a_line


def test_no_exit_is_told_before_the_init_is() -> None:
    telling = Telling()
    telling.hear(TOLD)
    assert telling.exit_codes() == ()
    assert telling.first() == INIT
    assert telling.exit_codes() == (3,)
    assert telling.exit_codes() == ()


@pytest.mark.parametrize(
    "line", [b"no JSON", b"[]", b'"text"', b"5", b'{"exit-code": "x"}', b'{"exit-code": null}', b"\xff"]
)
def test_what_tells_of_no_exit_is_passed_over(line: bytes) -> None:
    telling = Telling()
    telling.hear(INIT + b"\n" + line + b"\n")
    telling.first()
    assert telling.exit_codes() == ()


def test_a_line_that_has_only_begun_is_waited_for() -> None:
    telling = Telling()
    telling.hear(INIT[:5])
    assert telling.is_amid_a_line
    assert telling.first() is None
