"""Celery beat. It only sends names of tasks, so it imports no models, tasks or views."""

from __future__ import annotations

import logging
import os
from typing import Any

from celery import Celery
from celery.beat import Scheduler
from django.conf import settings
from django.utils.log import configure_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "as2certs.settings")

app = Celery("as2certs", fixups=[])  # the fixup for Django would import all apps
app.config_from_object("django.conf:settings", namespace="CELERY")

log = logging.getLogger("as2certs.beat")


class OneLineScheduler(Scheduler):
    """Send tasks, and log in one line if the broker does not take them; Celery logs two tracebacks for each."""

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except Exception as error:  # noqa: BLE001  # as its parent: beat goes on, whatever the broker raises
            log.error("The broker takes no message, the loop applies what is due without it: %s", error)


if __name__ == "__main__":
    configure_logging(settings.LOGGING_CONFIG, settings.LOGGING)
    scheduler: Any = OneLineScheduler  # Celery takes a class as well as a name
    app.Beat(loglevel="WARNING", quiet=True, scheduler_cls=scheduler).run()
