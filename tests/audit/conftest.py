"""Fixtures of the tests of the trail: entries, and the command that verifies them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.clock import database_now
from partners.models import Partner

ALICE = Actor(name="Alice", source="web", address="192.0.2.7")


@pytest.fixture
def partner() -> Partner:
    return Partner.objects.create(name="Northwind", as2_id="NORTHWIND")


def add_entries(
    partner: Partner, count: int = 1, *, now: datetime | None = None, verb: str = "partner.changed"
) -> list[Entry]:
    """Add so many entries about a partner; by the database's clock unless another moment is given."""
    return [
        record(
            AuditEvent(
                verb,
                partner,
                old={"time_zone": "UTC", "holds": ["a", "b"]},
                new={
                    "time_zone": "Europe/Zürich",
                    "holds": [],
                    "days": 14,
                    "ratio": 0.5,
                    "late": False,
                    "at": None,
                },
                reason="They said: “moved”.\nTwice.",
            ),
            by=ALICE,
            now=(now or database_now()) + timedelta(milliseconds=number),
        )
        for number in range(count)
    ]


def run_verify_audit(*arguments: str) -> list[str]:
    """Run verify_audit and return its lines, with its last word; findings begin with a word in capitals."""
    out = StringIO()
    try:
        call_command("verify_audit", *arguments, stdout=out)
    except CommandError as error:
        return [*out.getvalue().splitlines(), str(error)]
    return out.getvalue().splitlines()


def findings(*arguments: str) -> list[str]:
    """Return what verify_audit finds, without notes and sums; nothing when it ends well."""
    lines = run_verify_audit(*arguments)
    found = [line for line in lines if line.partition(":")[0].isupper()]
    assert bool(found) == lines[-1].startswith("The trail was tampered with"), lines
    return found


def is_intact() -> bool:
    """Say whether verify_audit finds nothing."""
    return not findings()


LONG_AGO = datetime(2020, 3, 1, 12, 0, tzinfo=UTC)
