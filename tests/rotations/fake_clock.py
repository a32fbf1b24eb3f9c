"""A clock for the runner that stands still until a test moves it."""

from __future__ import annotations

from datetime import datetime

from rotations import runner
from tests.rotations.company import NOW


class FakeClock:
    """Return ``now``; it begins at NOW."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def apply_due(self) -> int:
        """Let the runner carry out what is due by this clock, and return how many steps it claimed."""
        return runner.apply_due(wait=False, clock=self)
