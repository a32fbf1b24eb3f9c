"""Celery: the clockwork that wakes the application. It holds no truth: losing every message costs nothing."""

from __future__ import annotations

import gc
import os
import signal
import warnings
from typing import Any

from celery import Celery, signals
from celery.exceptions import SecurityWarning

# Root is often the only account of a container; what the warning is about, pickled messages, is not accepted here.
warnings.filterwarnings("ignore", "You're running the worker with superuser privileges", SecurityWarning)

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "as2certs.settings")

app = Celery("as2certs")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@signals.worker_process_init.connect
def ignore_sigterm(**kwargs: Any) -> None:
    """Let a pool process finish its task: honcho ends the whole group, and the parent ends its pool in order."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@signals.worker_init.connect
def preload(**kwargs: Any) -> None:
    """Load before the pool is forked what each of its processes would load at the first step's moment."""
    from rotations import runner  # models can't be loaded before this app is

    runner.warm_up()
    gc.freeze()  # what is loaded now is shared by the pool: a collection would touch, and so copy, all of it
