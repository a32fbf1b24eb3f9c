"""What the tests of the inventory share: a fixed clock, users, and certificates in use."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from as2certs import pki
from as2certs.accounts.models import User
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor
from identities.certificates.single_import import import_certificate
from identities.models import Identity
from identities.stations import AbstractStation
from partners.models import Partner
from rotations.models import Rotation
from tests.certificates import make_pair

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PASSWORD = "a long password of a person"
BY = Actor(name="Alice", source="web")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """Fix the clock at NOW for identities and partners."""
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)
    reverse("home")  # loads every page, and so every module that asks for the time
    for name, module in list(sys.modules.items()):
        if name.startswith(("identities.", "partners.")) and hasattr(module, "database_now"):
            monkeypatch.setattr(module, "database_now", lambda: NOW)
    return NOW


def client_of(role: str) -> Client:
    """Return a client logged in as a user of a group; the same user for the same role."""
    user, new = User.objects.get_or_create(username=role, defaults={"first_name": role.title()})
    if new:
        user.set_password(PASSWORD)
        user.save()
        user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator(clock: datetime) -> Client:
    return client_of("operator")


@pytest.fixture
def viewer(clock: datetime) -> Client:
    return client_of("viewer")


@pytest.fixture
def administrator(clock: datetime) -> Client:
    client = client_of("administrator")
    User.objects.filter(username="administrator").update(is_staff=True)
    return client


def make_identity(as2_id: str = "ACME-PROD", **columns: Any) -> Identity:
    return Identity.objects.create(**{"name": as2_id.title(), "as2_id": as2_id, **columns})


def make_partner(as2_id: str = "NORTHWIND", **columns: Any) -> Partner:
    return Partner.objects.create(**{"name": as2_id.title(), "as2_id": as2_id, **columns})


def add_certificate(
    station: AbstractStation,
    *,
    days: float = 20,
    roles: tuple[str, ...] | None = None,
    name: str = "",
    with_key: bool = True,
) -> Any:
    """Import a certificate of a station that ends so many days after NOW, for all its roles or some."""
    ends = NOW + timedelta(days=days)
    leaf, key = make_pair(name or station.as2_id, not_before=NOW - timedelta(days=400), not_after=ends)
    ours = isinstance(station, Identity) and with_key
    material = pki.Material(leaf=leaf, chain=(), key=key if ours else None, container="pem")
    return import_certificate(station, material, roles=roles or station.ROLES, by=BY, now=NOW).certificate


def start_rotation(station: AbstractStation, old: Any, new: Any = None, **columns: Any) -> Rotation:
    """Store a running rotation of a station with what the pages of the inventory need."""
    side = "identity" if isinstance(station, Identity) else "partner"
    pair = {f"old_{side}_certificate": old, f"new_{side}_certificate": new}
    return Rotation.objects.create(**{side: station, **pair, "roles": list(station.ROLES), "set_up_at": NOW, **columns})


def trail() -> list[Entry]:
    """Return the entries of the audit trail, the oldest first, without logins."""
    return list(Entry.objects.exclude(object_kind="accounts.user").order_by("id"))


def verbs() -> list[str]:
    """Return the verbs of the audit trail, the oldest first."""
    return [entry.verb for entry in trail()]


def listed_names(client: Client, address: str, **query: str) -> list[str]:
    """Return the names of the rows that a list shows."""
    table = client.get(address, query).context["table"]
    return [str(getattr(row.record, "name", row.record)) for row in table.page.object_list]


def count_queries(ask: Callable[[], Any]) -> int:
    """Return the number of queries of a call."""
    with CaptureQueriesContext(connection) as captured:
        ask()
    return len(captured)
