"""Limits on guessing tokens and on requests per link.

Attempts are counted in the database, in one row per minute, so that all web processes share the counts.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import F, Sum

from rotations.models import Link, Tries

#: Wrong tokens per minute after which an address is locked out.
MAX_WRONG_TOKENS = 200
#: Duration of a lockout, counted from the last wrong token.
LOCKOUT = timedelta(minutes=10)
#: POST requests per link and minute.
MAX_REQUESTS_PER_LINK = 60
#: Older rows are deleted.
RETENTION = timedelta(hours=1)


def count_attempt(key: str, *, now: datetime) -> int:
    """Count an attempt and return the number of attempts in this minute."""
    minute = now.replace(second=0, microsecond=0)
    if not Tries.objects.filter(key=key, minute=minute).update(count=F("count") + 1):
        Tries.objects.filter(minute__lt=now - RETENTION).delete()
        Tries.objects.bulk_create([Tries(key=key, minute=minute)], ignore_conflicts=True)
        Tries.objects.filter(key=key, minute=minute).update(count=F("count") + 1)
    return Tries.objects.values_list("count", flat=True).get(key=key, minute=minute)


def record_wrong_token(address: str | None, *, now: datetime) -> None:
    """Count a wrong token and lock its address out when there are too many."""
    count_attempt(_wrong_token_key(address), now=now)
    if _recent_count(_wrong_token_key(address), now=now) >= MAX_WRONG_TOKENS:
        count_attempt(_lockout_key(address), now=now)


def is_locked_out(address: str | None, *, now: datetime) -> bool:
    """Return whether requests from this address are refused for now."""
    return Tries.objects.filter(key=_lockout_key(address), minute__gt=now - LOCKOUT).exists()


def may_bypass_lockout(link: Link, address: str | None) -> bool:
    """Return whether a valid link works from a locked-out address, because it was last used from there.

    Otherwise somebody who guesses tokens behind the same proxy could lock out a partner.
    """
    has_been_used = link.fetched_at is not None or link.opened_at is not None
    return has_been_used and link.last_address == address


def is_over_limit(link: Link, *, now: datetime) -> bool:
    """Count a request by a link and return whether there were too many in this minute."""
    return count_attempt(f"link {link.uid}", now=now) > MAX_REQUESTS_PER_LINK


def _recent_count(key: str, *, now: datetime) -> int:
    """Return the attempts in this minute and the previous one, to catch a burst across both."""
    rows = Tries.objects.filter(key=key, minute__gt=now - timedelta(minutes=2))
    return rows.aggregate(sum=Sum("count"))["sum"] or 0


def _wrong_token_key(address: str | None) -> str:
    return f"wrong {address or 'socket'}"


def _lockout_key(address: str | None) -> str:
    return f"locked {address or 'socket'}"
