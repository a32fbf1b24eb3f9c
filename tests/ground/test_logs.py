"""What repeats in the log is written once a minute, in one line."""

from __future__ import annotations

import logging
import sys
from io import StringIO

import pytest

from as2certs import logs


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(logs, "monotonic", made)
    return made


def record(message: str, level: int = logging.ERROR, *, error: Exception | None = None) -> logging.LogRecord:
    exc_info = None
    if error is not None:
        try:
            raise error
        except Exception:  # noqa: BLE001  # a traceback is wanted
            exc_info = sys.exc_info()
    return logging.LogRecord("as2certs.test", level, __file__, 1, message, None, exc_info)


def test_an_error_that_repeats_is_written_once_a_minute_in_one_line(clock: Clock) -> None:
    out = StringIO()
    handler = logs.RepeatLimitHandler(out)
    for second in range(150):
        clock.now = 1000.0 + second
        handler.handle(record("The disk is full", error=OSError("no room")))
    first, *later = out.getvalue().split("The disk is full")[1:]
    assert "Traceback" in first
    assert [line.strip() for line in later] == [
        ": OSError('no room') (again, 60 times since it was logged)",
        ": OSError('no room') (again, 60 times since it was logged)",
    ]
    clock.now += logs.RepeatLimitHandler.FORGET_SECONDS + 60
    handler.handle(record("The disk is full", error=OSError("no room")))
    assert out.getvalue().count("Traceback") == 2


def test_what_differs_or_is_no_trouble_is_written_each_time(clock: Clock) -> None:
    out = StringIO()
    handler = logs.RepeatLimitHandler(out)
    for error in (OSError("no room"), OSError("no rights"), None):
        handler.handle(record("It failed", error=error))
    for _ in range(3):
        handler.handle(record("It works", logging.INFO))
    assert out.getvalue().count("It failed") == 3
    assert out.getvalue().count("It works") == 3


def test_it_remembers_a_bounded_number_of_messages(clock: Clock) -> None:
    handler = logs.RepeatLimitHandler(StringIO())
    for number in range(handler.MAX_REMEMBERED + 100):
        handler.handle(record(f"number {number}"))
    assert len(handler._written) == handler.MAX_REMEMBERED
