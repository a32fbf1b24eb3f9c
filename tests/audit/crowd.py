"""Many concurrent writers and several sealers of the trail, run inside an installation."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from django.db import connection, connections, transaction

from as2certs.accounts.models import Installation
from as2certs.audit import sealing
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.clock import database_now

BY = Actor.command("tests")


def add_entries(count: int, *, word: str = "x") -> None:
    """Add so many entries in one transaction."""
    on = Installation.current()
    with transaction.atomic():
        for _ in range(count):
            record(AuditEvent("installation.changed", on, new={"word": word}), by=BY, now=database_now())


class RolledBack(Exception):
    """Raised to roll a transaction back."""


def write_many(number: int, rounds: int) -> None:
    """Commit many transactions of uneven length, and undo every fifth."""
    dice = random.Random(number)
    for round_ in range(rounds):
        try:
            with transaction.atomic():
                for _ in range(dice.randint(1, 6)):
                    add_entries(1, word="undone" if round_ % 5 == 4 else "kept")
                    time.sleep(dice.uniform(0, 0.004))
                if round_ % 5 == 4:
                    raise RolledBack
        except RolledBack:
            pass


def run_crowd(*, writers: int, sealers: int, rounds: int) -> dict[str, Any]:
    """Let all of them work at once; return what they came to."""
    over = threading.Event()
    sealed: list[int] = []
    wrong: list[str] = []

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001  # reported below
                wrong.append(repr(error))
            finally:
                connections.close_all()

        return run

    def keep_sealing() -> None:
        while not over.is_set():
            sealed.append(sealing.seal())

    writing = [threading.Thread(target=guarded(lambda n=n: write_many(n, rounds))) for n in range(writers)]  # type: ignore[misc]
    at_it = [threading.Thread(target=guarded(keep_sealing)) for _ in range(sealers)]
    for thread in (*writing, *at_it):
        thread.start()
    for thread in writing:
        thread.join()
    over.set()
    for thread in at_it:
        thread.join()
    sealed.append(sealing.seal(most=None, wait=True))
    rows = list(Entry.objects.order_by("position").values_list("position", "id", "new"))
    return {
        "wrong": wrong,
        "entries": len(rows),
        "sealed": sum(sealed),
        "passes": sum(count > 0 for count in sealed),
        "undone": sum(new["word"] == "undone" for _, _, new in rows),
        "without_gap": [position for position, _, _ in rows] == list(range(1, len(rows) + 1)),
        "out_of_order": sum(a[1] > b[1] for a, b in pairwise(rows)),
    }


def lock_waits() -> list[str]:
    """Write while somebody holds the chain, and seal while somebody writes; any wait for a lock is an error."""
    add_entries(1)
    sealing.seal()
    done: list[str] = []

    def elsewhere(work: Callable[[], object], said: str) -> None:
        def run() -> None:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '1ms'")
            try:
                done.append(f"{said} {work()}")
            except Exception as error:  # noqa: BLE001  # reported by the test
                done.append(repr(error))
            finally:
                connections.close_all()

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    with transaction.atomic():
        sealing.lock_head(wait=True)
        elsewhere(lambda: add_entries(3), "added")
        elsewhere(sealing.seal, "sealed")
    with transaction.atomic():
        add_entries(2)
        elsewhere(lambda: add_entries(3), "added")
        elsewhere(sealing.seal, "sealed")
    elsewhere(sealing.seal, "sealed")
    return done
