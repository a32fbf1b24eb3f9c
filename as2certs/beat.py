"""Celery beat. It only sends names of tasks, so it imports no models, tasks or views."""

from __future__ import annotations

import os

from celery import Celery
from django.conf import settings
from django.utils.log import configure_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "as2certs.settings")

app = Celery("as2certs", fixups=[])  # the fixup for Django would import all apps
app.config_from_object("django.conf:settings", namespace="CELERY")

if __name__ == "__main__":
    configure_logging(settings.LOGGING_CONFIG, settings.LOGGING)
    app.Beat(loglevel="WARNING", quiet=True).run()
