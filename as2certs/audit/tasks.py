"""Celery tasks of the trail."""

from __future__ import annotations

from celery import shared_task

from as2certs.audit import sealing


@shared_task(ignore_result=True)
def seal() -> None:
    """Seal new entries of the trail."""
    sealing.seal()
