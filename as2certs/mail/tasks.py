"""The Celery task that sends due mail."""

from __future__ import annotations

from celery import shared_task

from as2certs.clock import database_now
from as2certs.mail import outbox


@shared_task
def send_due() -> int:
    """Send the mails that are due."""
    return outbox.send_due(now=database_now())
