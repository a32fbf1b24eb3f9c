"""Nobody tries tokens fast, and nobody uses a link so much that others wait.

Counted in the database, a row per minute: any number of web processes share it, and nothing else has to run.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import F, Sum

from rotations.models import Link, Tries

#: Wrong tokens from one address within a minute; more, and the address is locked out.
MAX_WRONG_TOKENS = 200
#: How long it is locked out, counted from its last wrong token.
LOCKOUT = timedelta(minutes=10)
#: Requests by one link in a minute that change something, or take work to answer.
MAX_REQUESTS_PER_LINK = 60
#: Rows older than this say nothing any more.
RETENTION = timedelta(hours=1)


def count_attempt(key: str, *, now: datetime) -> int:
    """Count one more try, and return how many there were in this minute."""
    minute = now.replace(second=0, microsecond=0)
    if not Tries.objects.filter(key=key, minute=minute).update(count=F("count") + 1):
        Tries.objects.filter(minute__lt=now - RETENTION).delete()
        Tries.objects.bulk_create([Tries(key=key, minute=minute)], ignore_conflicts=True)
        Tries.objects.filter(key=key, minute=minute).update(count=F("count") + 1)
    return Tries.objects.values_list("count", flat=True).get(key=key, minute=minute)


def record_wrong_token(address: str | None, *, now: datetime) -> None:
    """Count a wrong token, and lock its address out when there are too many."""
    count_attempt(_wrong_token_key(address), now=now)
    if _recent_count(_wrong_token_key(address), now=now) >= MAX_WRONG_TOKENS:
        count_attempt(_lockout_key(address), now=now)


def is_locked_out(address: str | None, *, now: datetime) -> bool:
    """Say whether no token from this address is looked at for now."""
    return Tries.objects.filter(key=_lockout_key(address), minute__gt=now - LOCKOUT).exists()


def may_bypass_lockout(link: Link, address: str | None) -> bool:
    """Say whether a good link is let through from a locked address: the one that it was used from before.

    So somebody who guesses behind the same proxy does not lock a partner out that has begun to answer.
    """
    return link.opened_at is not None and link.last_address == address


def is_over_limit(link: Link, *, now: datetime) -> bool:
    """Count a request by a link, and say whether there were too many in this minute."""
    return count_attempt(f"link {link.uid}", now=now) > MAX_REQUESTS_PER_LINK


def _recent_count(key: str, *, now: datetime) -> int:
    """Sum up this minute and the one before: a burst across the full minute is no way around."""
    rows = Tries.objects.filter(key=key, minute__gt=now - timedelta(minutes=2))
    return rows.aggregate(sum=Sum("count"))["sum"] or 0


def _wrong_token_key(address: str | None) -> str:
    return f"wrong {address or 'socket'}"


def _lockout_key(address: str | None) -> str:
    return f"locked {address or 'socket'}"
