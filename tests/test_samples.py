"""Samples are the same in each run, and no test is lost between the parts of `make test` and `make test-rest`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, combinations, product

import pytest
from _pytest.mark.expression import Expression
from _pytest.mark.structures import ParameterSet

from tests.parts import ON_POSTGRES, PARTS, Part
from tests.samples import sample


def chosen(params: Sequence[ParameterSet]) -> list[tuple[object, ...]]:
    return [tuple(param.values) for param in params if pytest.mark.extended not in param.marks]


def test_a_sample_leaves_all_cases_in_their_order_and_marks_those_outside() -> None:
    params = sample(range(10), 3)
    assert [param.values for param in params] == [(n,) for n in range(10)]
    assert len(chosen(params)) == 3
    assert chosen(sample(range(10), 3)) == chosen(params)
    assert len(chosen(sample(range(3), 5))) == 3


def test_a_sample_of_a_product_has_each_of_its_factors() -> None:
    found = chosen(sample(product("abcdef", range(4), (False, True)), 6))
    assert len(found) == 6
    assert {case[0] for case in found} == set("abcdef")
    assert {case[1] for case in found} == set(range(4))
    assert {case[2] for case in found} == {False, True}


def test_names_and_marks_of_cases_are_kept() -> None:
    cases = [pytest.param(n, id=f"case {n}", marks=pytest.mark.on_postgres) for n in range(4)]
    params = sample(cases, 2)
    assert [param.id for param in params] == [f"case {n}" for n in range(4)]
    assert all(pytest.mark.on_postgres in param.marks for param in params)


def selecting(parts: list[Part], markers: set[str]) -> int:
    """Return how many parts run a test with these markers."""

    def has(name: str, /, **_: object) -> bool:
        return name in markers

    return sum(Expression.compile(part.markers).evaluate(has) for part in parts)


def sets_of(names: set[str]) -> Iterator[set[str]]:
    return (set(some) for size in range(len(names) + 1) for some in combinations(sorted(names), size))


def test_every_test_is_in_one_part_on_sqlite_and_what_uses_the_database_in_one_on_postgres() -> None:
    everything = [part for part in chain.from_iterable(PARTS.values()) if not part.at]  # those are repetitions
    on_postgres = [part for part in everything if part.arguments[:2] == ON_POSTGRES]
    on_sqlite = [part for part in everything if part not in on_postgres]
    names = set(re.findall(r"\w+", " ".join(part.markers for part in everything))) - {"and", "or", "not"}
    for markers in sets_of(names):
        if not {"alone", "processes"} <= markers:  # tests/conftest.py gives a test one of the two
            assert selecting(on_sqlite, markers) == 1, markers
    for markers in sets_of({"extended", "on_postgres"}):
        assert selecting(on_postgres, {"database", *markers}) == 1, markers
