"""Lists, page by page: keys, cursors, and what is no cursor."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.testing import RunHost, client
from ringfence.web import Problem, cursor, number_of, page, parts_of

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@given(st.lists(st.integers(0, 999), unique=True, max_size=30), st.integers(1, 12), st.data())
def test_what_is_there_all_the_time_is_listed_once_whatever_comes_and_goes(
    stays: list[int], limit: int, data: st.DataObject
) -> None:
    there, listed, after = set(stays), list[int](), -1
    while True:
        found = sorted(one for one in there if one > after)[: limit + 1]
        one_page = page(found, limit, str)
        listed += one_page.entries
        if one_page.next is None:
            break
        after = int(one_page.next)
        there = set(stays) | set(data.draw(st.lists(st.integers(0, 999), max_size=5)))
    assert [one for one in listed if one in stays] == sorted(stays)
    assert len(listed) == len(set(listed))


def test_a_list_that_ends_with_a_page_has_no_next_one() -> None:
    assert page([1, 2], 2, str).next is None
    assert page([1, 2, 3], 2, str).next == "2"
    assert page([], 2, str).next is None


@given(st.lists(texts, min_size=1, max_size=4))
def test_a_cursor_is_read_as_it_was_written_and_is_safe_in_a_query(key: list[str]) -> None:
    text = cursor(*key)
    assert parts_of(text, len(key)) == key
    assert text.isascii()
    assert not set(text) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


def encoded(document: str) -> str:
    return base64.urlsafe_b64encode(document.encode()).decode()


@pytest.mark.parametrize(
    "after",
    [
        "",
        "x",
        "é",
        "x" * 2000,
        encoded("{}"),
        encoded('["a"]'),
        encoded('["a", 1]'),
        encoded('["a", "\\u0000"]'),
        encoded('["a", "\\ud800"]'),
        encoded("[" * 1400),
        encoded("9" * 1400),
        encoded('["a", "b", "c"]'),
    ],
)
def test_what_is_no_cursor_is_refused(after: str) -> None:
    with pytest.raises(Problem) as refused:
        parts_of(after, 2)
    assert refused.value.status == 422


@pytest.mark.parametrize("after", ["", "-1", "1.5", "x", "9" * 19, "１"])
def test_what_is_no_number_is_refused(after: str) -> None:
    with pytest.raises(Problem):
        number_of(after)
    assert number_of("17") == 17


async def test_the_lists_of_the_host_are_paged(run_host: RunHost) -> None:
    host = await run_host(plugins=[])
    async with client(host) as admin:
        for number in range(5):
            rules = {"name": f"t{number}", "rules": ["host.plugin.read"]}
            assert (await admin.post("/api/host/tokens", json=rules)).status_code == 201
        whole = (await admin.get("/api/host/tokens")).json()
        assert whole["next"] is None
        names, after = list[str](), None
        while True:
            query = {"limit": 2, **({} if after is None else {"after": after})}
            answer = (await admin.get("/api/host/tokens", params=query)).json()
            assert len(answer["tokens"]) <= 2
            names += [one["name"] for one in answer["tokens"]]
            if (after := answer["next"]) is None:
                break
        assert names == [one["name"] for one in whole["tokens"]]
        assert len(names) == 6
        amiss = encoded(json.dumps(["9999-12-31T23:59:59-23:59", "x"]))
        for path, wrong in (
            ("/api/host/tokens", amiss),
            ("/api/host/tokens", "x"),
            ("/api/host/events/failed", "x"),
        ):
            assert (await admin.get(path, params={"after": wrong})).status_code == 422
        assert (await admin.get("/api/host/tokens", params={"limit": 501})).status_code == 422
