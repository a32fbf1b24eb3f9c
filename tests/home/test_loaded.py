"""What each process has loaded when it starts."""

from __future__ import annotations

import gc


def test_what_is_loaded_at_the_start_is_left_alone_by_full_collections() -> None:
    assert gc.get_freeze_count() > 50_000
