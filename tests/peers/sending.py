"""What the programs of all stations share: they send in intervals, and begin, stop and end when a signal says so.

Only the standard library is used, since django-pyas2 runs in an environment of its own.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence

from tests.peers import journal

BEGIN, STOP, END = signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM


class Sender(threading.Thread):
    """Sends a message with the next tag at each interval, until `stopping` is set."""

    def __init__(self, send: Callable[[str], None], prefix: str, seconds: float) -> None:
        super().__init__(daemon=True)
        self.send, self.prefix, self.seconds = send, prefix, seconds
        self.stopping = threading.Event()

    def run(self) -> None:
        begin, number = time.monotonic(), 0
        while not self.stopping.wait(max(0, begin + number * self.seconds - time.monotonic())):
            number += 1
            self.send(f"{self.prefix}-{number}")


def block_signals() -> None:
    """Leave the signals to `obey_signals`; to be called before any thread begins, since threads inherit it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {BEGIN, STOP, END})


def obey_signals(senders: Sequence[Sender], notes: journal.Journal) -> None:
    """Begin to send and stop sending when that is asked for, and return when the station shall end."""
    notes.write(journal.LISTENING)
    while (received := signal.sigwait({BEGIN, STOP, END})) != END:
        for sender in senders:
            if received == BEGIN:
                sender.start()
            else:
                sender.stopping.set()
        if received == STOP:
            for sender in senders:
                sender.join()
            notes.write(journal.QUIET)
