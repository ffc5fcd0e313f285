"""Which rows of a table the fast tests keep."""

from __future__ import annotations

from itertools import product

from tests.in_turn import kept

USERS, WAYS, CASES = ("root", "other"), ("cold", "warm"), ("a", "b", "c")


def test_each_combination_of_the_others_is_kept_with_one_value_in_turn() -> None:
    rows = [{"who": who, "way": way, "case": case} for who, way, case in product(USERS, WAYS, CASES)]
    chosen = [tuple(rows[place].values()) for place in kept(rows, ["way"])]
    assert sorted((who, case) for who, _, case in chosen) == sorted(product(USERS, CASES))
    assert sorted(way for _, way, _ in chosen) == ["cold"] * 3 + ["warm"] * 3


def test_each_value_is_kept_where_there_are_fewer_combinations_than_values() -> None:
    assert kept([{"way": way} for way in "abcd"], ["way"]) == {0, 1, 2, 3}
    assert kept([{"way": "a"}, {"way": "a", "who": 1}], ["other"]) == {0, 1}
    assert kept([], ["way"]) == set()


def test_of_two_that_turn_each_value_is_kept_and_not_each_pair() -> None:
    rows = [{"who": who, "way": way} for who, way in product(USERS, WAYS)]
    assert kept(rows, ["who", "way"]) == {0, 3}
    assert kept(rows, ["way"]) == {0, 3}


def test_two_that_turn_are_paired_in_every_way_where_there_are_rows_enough() -> None:
    rows = [{"case": case, "who": who, "way": way} for case, who, way in product("abcd", USERS, WAYS)]
    chosen = [tuple(rows[place].values()) for place in kept(rows, ["who", "way"])]
    assert sorted(case for case, _, _ in chosen) == list("abcd")
    assert {(who, way) for _, who, way in chosen} == set(product(USERS, WAYS))
