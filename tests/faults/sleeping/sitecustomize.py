"""Loaded by each Python that runs with another time (tests.programs.other_time): lets it sleep all the same.

Debian's libfaketime (0.9.10) reckons the moment until which clock_nanosleep(2) is to wait, on the clock that it leaves
alone, as if it were one of its own, so that ``time.sleep`` fails; waiting for nothing by select(2) is not affected.
"""

import select
import time
from typing import SupportsIndex


def sleep(seconds: float | SupportsIndex) -> None:
    select.select([], [], [], float(seconds))


time.sleep = sleep
