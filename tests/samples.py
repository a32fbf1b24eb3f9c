"""Samples of many cases: `make test` takes the sample, `make test-all` takes the other cases too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

import pytest
from _pytest.mark import ParameterSet


def sample(cases: Iterable[Any], size: int) -> list[ParameterSet]:
    """Return the cases as parameters, with all outside of a sample of `size` marked `extended`.

    A case is one value, a tuple of values, or a `pytest.param`, whose id and marks are kept. The same cases give the
    same sample in every run and every process:

    1. Take the cases in an order that is mixed, but fixed.
    2. Choose the case with the most values of arguments that are in several cases, and in none of the chosen ones;
       again, until there is none left. So a sample of a product has each of its factors where `size` allows.
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


def _chosen(cases: Sequence[Sequence[object]], size: int) -> list[int]:
    """Return the numbers of the chosen cases, `size` at most."""
    mixed = Random(1).sample(range(len(cases)), len(cases))
    values = [{(column, repr(value)) for column, value in enumerate(case)} for case in cases]
    counts = Counter(value for case in values for value in case)
    missing = {value for value, count in counts.items() if count > 1}
    chosen: list[int] = []
    while missing and len(chosen) < size:
        best = max(mixed, key=lambda number: len(values[number] & missing))
        missing -= values[best]
        chosen.append(best)
    others = [number for number in mixed if number not in chosen]
    return [*chosen, *others][:size]
