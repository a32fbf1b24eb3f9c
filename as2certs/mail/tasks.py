"""Celery's way to the outbox."""

from __future__ import annotations

from celery import shared_task

from as2certs.clock import database_now
from as2certs.mail import outbox


@shared_task
def send_due() -> int:
    """Send what is due now."""
    return outbox.send_due(now=database_now())
