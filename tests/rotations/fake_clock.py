"""The database's clock as the runner reads it, moved by hand."""

from __future__ import annotations

from datetime import datetime

from tests.rotations.company import NOW


class FakeClock:
    """Stands at NOW until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now
