"""The assembler: what it makes of labels, near and far."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox.filters.seccomp.bpf import (
    FARTHEST,
    JUMP_ANY_BIT,
    JUMP_AT_LEAST,
    JUMP_EQUAL,
    JUMP_GREATER,
    LOAD,
    LONGEST_PROGRAM,
    NUMBER,
    RETURN,
    Source,
    Step,
    assemble,
    to_bytes,
)

from tests.sandbox.machine import interpret


def meant(source: Source, number: int) -> int:
    """The verdict of a source of comparisons, by its labels alone."""
    at = 0
    while True:
        step = source[at]
        at += 1
        if isinstance(step, str) or step.code == LOAD:
            continue
        if step.code == RETURN:
            return step.k
        holds = {
            JUMP_EQUAL: number == step.k,
            JUMP_GREATER: number > step.k,
            JUMP_AT_LEAST: number >= step.k,
            JUMP_ANY_BIT: bool(number & step.k),
        }[step.code]
        label = step.to if holds else step.otherwise
        at = at if label is None else source.index(label)


@st.composite
def sources(draw: st.DrawFn) -> list[Step | str]:
    """Blocks with a verdict each, between which comparisons jump forward; some so long that jumps over them are far."""
    count = draw(st.integers(2, 8))
    made: list[Step | str] = [Step(LOAD, NUMBER)]
    for block in range(count):
        made.append(f"block-{block}")
        later = st.one_of(st.none(), st.integers(block + 1, count).map(lambda n: f"block-{n}"))
        for _ in range(draw(st.integers(0, 3))):
            code = draw(st.sampled_from([JUMP_EQUAL, JUMP_GREATER, JUMP_AT_LEAST, JUMP_ANY_BIT]))
            made.append(Step(code, draw(st.integers(0, 7)), draw(later), draw(later)))
        made += [Step(RETURN, block)] * draw(st.sampled_from([1, 2, FARTHEST - 1, FARTHEST, 2 * FARTHEST]))
    return [*made, f"block-{count}", Step(RETURN, count)]


@given(source=sources(), number=st.integers(0, 8))
def test_a_comparison_leads_where_its_labels_say_however_far_that_is(
    source: list[Step | str], number: int
) -> None:
    assert interpret(to_bytes(assemble(source)), number, 0) == meant(source, number)


@pytest.mark.parametrize("distance", [FARTHEST - 1, FARTHEST, FARTHEST + 1, 3000])
def test_a_target_out_of_reach_is_reached_by_a_detour(distance: int) -> None:
    source: list[Step | str] = [
        Step(LOAD, NUMBER),
        Step(JUMP_EQUAL, 7, to="there", otherwise="there too"),
        *[Step(RETURN, 1)] * distance,
        "there",
        Step(RETURN, 2),
        "there too",
        Step(RETURN, 3),
    ]

    code = to_bytes(assemble(source))

    assert [interpret(code, number, 0) for number in (7, 8)] == [2, 3]


def test_a_jump_backwards_is_refused_since_a_program_must_end() -> None:
    with pytest.raises(ValueError, match="backwards"):
        assemble(["here", Step(JUMP_EQUAL, 1, to="here"), Step(RETURN, 0)])


def test_a_program_that_the_kernel_would_not_take_is_refused() -> None:
    assert len(assemble([Step(RETURN, 0)] * LONGEST_PROGRAM)) == LONGEST_PROGRAM
    with pytest.raises(ValueError, match="more than the kernel takes"):
        assemble([Step(RETURN, 0)] * (LONGEST_PROGRAM + 1))
