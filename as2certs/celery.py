"""Celery: the clockwork that wakes the application. It holds no truth: losing every message costs nothing."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "as2certs.settings")

app = Celery("as2certs")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
