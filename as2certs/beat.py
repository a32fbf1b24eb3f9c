"""Beat: sends the names of tasks at their times. It needs no models, no tasks and no pages for that, and loads none."""

from __future__ import annotations

import os

from celery import Celery
from django.conf import settings
from django.utils.log import configure_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "as2certs.settings")

app = Celery("as2certs", fixups=[])  # the fix-up for Django would load all of it
app.config_from_object("django.conf:settings", namespace="CELERY")

if __name__ == "__main__":
    configure_logging(settings.LOGGING_CONFIG, settings.LOGGING)
    app.Beat(loglevel="WARNING", quiet=True).run()
