"""The Celery app. Due work is found in the database, so no message is ever needed."""

from __future__ import annotations

import gc
import os
import signal
import warnings
from typing import Any

from celery import Celery, signals
from celery.exceptions import SecurityWarning

# Containers often run as root; the warning is about pickled messages, which are not accepted here.
warnings.filterwarnings("ignore", "You're running the worker with superuser privileges", SecurityWarning)

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "as2certs.settings")

app = Celery("as2certs")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@signals.worker_process_init.connect
def ignore_sigterm(**kwargs: Any) -> None:
    """Let pool processes finish their tasks: a signal to the whole group is for the parent, which stops its pool."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@signals.worker_init.connect
def preload(**kwargs: Any) -> None:
    """Import before the pool is forked what each process would otherwise import when the first step is due."""
    from rotations import runner  # models can only be imported after this app

    runner.warm_up()
    gc.freeze()  # the pool shares this memory: a collection would write to, and so copy, all of it
