"""A clock for tests in place of ``database_now``."""

from __future__ import annotations

from datetime import datetime

from tests.rotations.company import NOW


class FakeClock:
    """A clock that returns NOW until ``now`` is set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now
