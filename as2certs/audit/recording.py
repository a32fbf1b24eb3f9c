"""Record events in the audit trail."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models, transaction
from django.http import HttpRequest

from as2certs.audit.models import Entry, Subject, object_reference
from as2certs.rows import in_batches, insert_rows

if TYPE_CHECKING:
    from as2certs.accounts.models import User

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Entries per INSERT statement.
BATCH_SIZE = 1000

_WITH_PORT = re.compile(r"\[(?P<v6>[0-9A-Fa-f:.]+)\](?::\d{1,5})?|(?P<v4>[0-9.]+):\d{1,5}")


@dataclass(frozen=True)
class Actor:
    """Who acts, and through which source."""

    name: str
    source: str
    user: User | None = None
    address: str | None = None

    @classmethod
    def of(cls, request: HttpRequest, *, source: str = Entry.Source.WEB) -> Actor:
        """Return the user of a request."""
        user = request.user if request.user.is_authenticated else None
        name = str(user) if user else "somebody not logged in"
        return cls(name=name, source=source, user=user, address=client_address(request))

    @classmethod
    def runner(cls) -> Actor:
        """Return the application itself, acting on schedule."""
        return cls(name="AS2 Certs", source=Entry.Source.TASK)

    @classmethod
    def command(cls, name: str) -> Actor:
        """Return a management command."""
        return cls(name=f"manage.py {name}", source=Entry.Source.COMMAND)


def client_address(request: HttpRequest) -> str | None:
    """Return the IP address that a request comes from, or None on a Unix socket.

    ``X-Forwarded-For`` is read from its end, and only as far as our own proxies wrote it: a client can forge the rest.
    """
    peer = _parse_address(request.META.get("REMOTE_ADDR", ""))
    forwarded = str(request.META.get("HTTP_X_FORWARDED_FOR", "")).split(",")
    while forwarded and peer is not None and _is_our_proxy(peer):
        client = _parse_address(forwarded.pop())
        if client is None:
            break
        peer = client
    return None if peer is None else str(peer)


def _parse_address(text: str) -> IPAddress | None:
    """Parse an IP address as proxies write it, with or without a port."""
    found = _WITH_PORT.fullmatch(text.strip())
    try:
        address = ipaddress.ip_address((found["v6"] or found["v4"]) if found else text.strip())
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_our_proxy(address: IPAddress) -> bool:
    return any(address in network for network in settings.AS2CERTS_PROXIES)


@dataclass(frozen=True)
class AuditEvent:
    """What an entry of the trail says, apart from who did it and when.

    ``verb`` is ``<noun>.<past participle>`` ("rotation.approved"); the entry also appears on the pages of the objects
    in ``also``. A second entry with the same ``key`` raises IntegrityError and undoes the transaction around it, which
    keeps a step from being applied twice. Never pass key bytes, passwords or tokens.
    """

    verb: str
    on: models.Model
    also: Iterable[models.Model] = ()
    old: Mapping[str, Any] | None = None
    new: Mapping[str, Any] | None = None
    reason: str = ""
    key: str | None = None


def record(event: AuditEvent, *, by: Actor, now: datetime) -> Entry:
    """Add one entry to the trail; call it in the transaction of the change itself.

    The entry and its subjects are committed together, because an entry may be sealed right afterwards.
    """
    with transaction.atomic(savepoint=False):
        entry = Entry.objects.create(**_shared_columns(by, now), **_columns(event))
        Subject.objects.bulk_create(Subject(entry=entry, kind=kind, uid=uid) for kind, uid in _subjects(event))
    return entry


def record_many(events: Iterable[AuditEvent], *, by: Actor, now: datetime) -> int:
    """Add an entry for each of many events, in their order, and return their number.

    Like ``record``, but with a few statements per batch, and one batch in memory at a time.
    """
    count = 0
    for batch in in_batches(events, BATCH_SIZE):
        with transaction.atomic(savepoint=False):
            rows = [_columns(event) for event in batch]
            entries = insert_rows(
                Entry, list(rows[0]), [list(row.values()) for row in rows], same=_shared_columns(by, now)
            )
            subjects = (
                (entry, kind, uid)
                for entry, event in zip(entries, batch, strict=True)
                for kind, uid in _subjects(event)
            )
            insert_rows(Subject, ("entry_id", "kind", "uid"), subjects)
        count += len(batch)
    return count


def _shared_columns(by: Actor, now: datetime) -> dict[str, Any]:
    """Return the columns that all entries of one actor at one moment share."""
    return {
        "at": now,
        "actor_id": by.user.pk if by.user else None,
        "actor_name": by.name,
        "source": by.source,
        "address": by.address,
    }


def _columns(event: AuditEvent) -> dict[str, Any]:
    kind, uid = object_reference(event.on)
    return {
        "verb": event.verb,
        "object_kind": kind,
        "object_uid": uid,
        "object_name": str(event.on)[:300],
        "old": dict(event.old or {}),
        "new": dict(event.new or {}),
        "reason": event.reason,
        "key": event.key,
    }


def _subjects(event: AuditEvent) -> list[tuple[str, str]]:
    """Return kind and public id of the objects that an entry concerns, each once."""
    return sorted({object_reference(obj) for obj in (event.on, *event.also)})


def changed_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values that differ between two sets of field values, as (old, new), JSON-serializable."""
    differing = [name for name in new if old.get(name) != new[name]]
    return {n: _json_value(old.get(n)) for n in differing}, {n: _json_value(new[n]) for n in differing}


def _json_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _json_value(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set | models.QuerySet):
        return [_json_value(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
