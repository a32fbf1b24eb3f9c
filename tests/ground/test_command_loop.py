"""Commands with --loop: what stops them, and what does not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import OperationalError

from as2certs.command_loop import LoopCommand


class SearchingCommand(LoopCommand):
    """Finds the database away at first, then finds something, and then gets a signal."""

    looks_for = "letters"
    seconds = 0.01
    number = signal.SIGTERM

    def __init__(self) -> None:
        super().__init__()
        self.rounds: list[bool] = []

    def look(self, *, loop: bool) -> str:
        self.rounds.append(loop)
        if loop and len(self.rounds) == 1:
            raise OperationalError("the database is shut down")
        if loop and len(self.rounds) == 3:
            os.kill(os.getpid(), self.number)
        return "1 letter."


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_command_runs_once_and_reports_what_it_did() -> None:
    searching, out = SearchingCommand(), StringIO()
    call_command(searching, stdout=out)
    assert (searching.rounds, out.getvalue()) == ([False], "1 letter.\n")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_loop_survives_a_database_outage_and_stops_on_a_signal(
    number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    searching, out = SearchingCommand(), StringIO()
    searching.number = number
    call_command(searching, loop=True, stdout=out)
    assert searching.rounds == [True] * 3
    assert out.getvalue() == "Looking every 0.01 s for letters.\n"
    assert caplog.messages == ["The database did not answer, trying again in 0.01 s: the database is shut down"]
