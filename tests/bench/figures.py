"""A figure: what was measured, what is to be reached, and whether it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Figure:
    """One line of the outcome.

    ``unit`` is "s", "×", "MB" or "queries"; ``told`` says what lies behind a ratio, and ``limit`` what keeps the figure
    from being better: the page says so where it is short.
    """

    name: str
    measured: float
    goal: float
    unit: str = "×"
    at_least: bool = False
    told: str = ""
    limit: str = ""

    @property
    def is_reached(self) -> bool:
        return self.measured >= self.goal if self.at_least else self.measured <= self.goal

    @property
    def verdict(self) -> str:
        return "ok" if self.is_reached else "short"

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Return name, measured, to reach, and verdict, as they are printed."""
        sign = "≥" if self.at_least else "≤"
        return (
            self.name,
            self._with_unit(self.measured),
            f"{sign} {self._with_unit(self.goal)}",
            self.verdict,
        )

    def _with_unit(self, value: float) -> str:
        return f"{value:.0f} {self.unit}" if self.unit == "queries" else f"{shown(value)} {self.unit}"


@dataclass
class Found:
    """What a benchmark found: its figures, and in ``wrong`` whatever failed or was done twice, in words."""

    figures: list[Figure] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Scale(Protocol):
    """How large a run is: a size as it is asked for, or a part of it."""

    def __call__(self, full: int) -> int: ...


@dataclass(frozen=True)
class Benchmark:
    """A measurement with a name by which it can be asked for."""

    name: str
    about: str
    measure: Callable[..., Found]


def shown(value: float) -> str:
    """Return a number with three digits that mean something."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}" if digits else f"{value:,.0f}"


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that so many percent do not exceed, without interpolation."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
