from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from as2certs.site.badges import expiry_meaning

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("left", "meaning"),
    [
        (timedelta(days=31), "fine"),
        (timedelta(days=30), "soon"),
        (timedelta(days=8), "soon"),
        (timedelta(days=7), "urgent"),
        (timedelta(minutes=-1), "urgent"),
    ],
)
def test_an_expiry_is_soon_from_30_days_and_urgent_from_7(left: timedelta, meaning: str) -> None:
    assert expiry_meaning(NOW + left, NOW) == meaning
