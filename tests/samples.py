"""Samples of many cases: `make test` takes the sample, `make test-all` takes the other cases too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any

import pytest
from _pytest.mark import ParameterSet


def sample(cases: Iterable[Any], size: int) -> list[ParameterSet]:
    """Return the cases as parameters, with all outside of a sample of `size` marked `extended`.

    A case is one value, a tuple of values, or a `pytest.param`, whose id and marks are kept. The same cases give the
    same sample in every run and every process:

    1. Take the cases in an order that is mixed, but fixed.
    2. Choose first those that bring a value of an argument that no chosen case has, as long as that value is in more
       than one case; so a sample of a product covers each of its factors where `size` allows.
    3. Fill the sample up in the mixed order.
    """
    params = [case if isinstance(case, ParameterSet) else _param(case) for case in cases]
    chosen = set(_chosen([param.values for param in params], size))
    return [
        param if number in chosen else param._replace(marks=[*param.marks, pytest.mark.extended])
        for number, param in enumerate(params)
    ]


def _param(case: Any) -> ParameterSet:
    return pytest.param(*case) if isinstance(case, tuple) else pytest.param(case)


def _chosen(cases: Sequence[Sequence[object]], size: int) -> Iterator[int]:
    """Yield the numbers of the chosen cases, `size` at most."""
    mixed = Random(1).sample(range(len(cases)), len(cases))
    values = [[(column, repr(value)) for column, value in enumerate(case)] for case in cases]
    counts: dict[tuple[int, str], int] = {}
    for value in (value for case in values for value in case):
        counts[value] = counts.get(value, 0) + 1
    uncovered = {value for value, count in counts.items() if count > 1}
    first: list[int] = []
    later: list[int] = []
    for number in mixed:
        (first if uncovered.intersection(values[number]) else later).append(number)
        uncovered.difference_update(values[number])
    yield from [*first, *later][:size]
