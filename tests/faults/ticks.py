"""Ticks beside those of beat: each task that beat wakes, many times a second."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery

TASKS = ("rotations.tasks.apply_due", "as2certs.mail.tasks.send_due", "rotations.tasks.send_reminders")


@contextmanager
def many_ticks(broker_url: str, *, times: int) -> Iterator[None]:
    """Send each task so often each second, as long as the block lasts."""
    app, over = Celery("ticks", broker=broker_url, set_as_current=False), threading.Event()

    def tick() -> None:
        with app.connection_for_write() as connection:
            while not over.wait(1):
                for task in TASKS * times:
                    app.send_task(task, expires=5, ignore_result=True, connection=connection)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        app.close()
