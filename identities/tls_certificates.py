"""Texts and tasks about the TLS certificates of AS2 URLs, which are no AS2 certificates.

The rows are those of ``partners.models.TlsCertificate``, which ``partners.tls_certificates`` writes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.utils import timezone

from as2certs.time_format import format_relative_day
from identities.open_tasks import OpenTask
from identities.role_status import ATTENTION_PERIOD


def describe_trouble(row: Any, now: datetime, zone: str) -> str:
    """Return what is to be done about a TLS certificate, as the end of a sentence; "" for nothing."""
    if row.not_after is not None and row.not_after - now <= ATTENTION_PERIOD:
        verb = "expires" if now <= row.not_after else "expired"
        return f"{verb} {format_relative_day(row.not_after, now, zone)}"
    return f"is not trusted: {row.problem}" if row.problem else ""


def host_of(row: Any) -> str:
    """Return the host of the AS2 URL, as its certificate names it."""
    return urlsplit(row.url).hostname or row.url


def tls_task(row: Any, now: datetime, *, names_station: bool = False) -> OpenTask | None:
    """Return the task to renew or correct a TLS certificate, None if nothing is to be done.

    ``names_station`` where the page is not the station's own.
    """
    trouble = describe_trouble(row, now, timezone.get_current_timezone_name())
    if not trouble:
        return None
    who = f"{row.holder}: " if names_station else ""
    has_expired = row.not_after is not None and row.not_after < now
    return OpenTask(
        "urgent" if has_expired else "soon",
        f"{who}The TLS certificate of {host_of(row)} {trouble}.",
        "See it",
        f"{row.holder.get_absolute_url()}#tls",
    )


def station_tls_tasks(station: Any, now: datetime) -> list[OpenTask]:
    """Return the task about the TLS certificate of a station's AS2 URL, if there is one."""
    row = getattr(station, "tls_certificate", None)
    task = tls_task(row, now) if row is not None else None
    return [task] if task else []
