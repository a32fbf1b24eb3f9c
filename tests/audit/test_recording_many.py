"""``record_many`` adds entries like ``record``: with their subjects, in order, and all or none."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from as2certs.audit import recording, sealing
from as2certs.audit.models import Entry, Subject
from as2certs.audit.recording import AuditEvent, record, record_many
from as2certs.clock import database_now
from partners.models import Contact, Partner
from tests.audit.conftest import ALICE, is_intact

pytestmark = [pytest.mark.django_db, pytest.mark.on_postgres]


def seen(entry: Entry) -> dict[str, object]:
    """Return what an entry holds, without its number."""
    columns = {f.attname: getattr(entry, f.attname) for f in Entry._meta.concrete_fields if f.name != "id"}
    return columns | {"subjects": sorted(entry.subjects.values_list("kind", "uid"))}


def test_an_entry_among_many_is_the_same_as_one_alone(partner: Partner) -> None:
    contact = Contact.objects.create(partner=partner, name="Dana")
    now = database_now()
    options = {"old": {"name": "D"}, "new": {"name": "Dana"}, "reason": "Typo", "key": "once"}
    with transaction.atomic():
        event = AuditEvent("contact.changed", contact, also=[partner], **options)  # type: ignore[arg-type]
        alone = seen(record(event, by=ALICE, now=now))
        transaction.set_rollback(True)
    happened = AuditEvent("contact.changed", contact, also=(partner, contact), **options)  # type: ignore[arg-type]
    assert record_many([happened], by=ALICE, now=now) == 1
    assert seen(Entry.objects.get()) == alone


def test_entries_keep_their_order_across_batches_and_can_be_sealed(
    partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "BATCH_SIZE", 4)
    happened = (AuditEvent("partner.changed", partner, new={"n": n}) for n in range(10))
    assert record_many(happened, by=ALICE, now=database_now()) == 10
    assert [entry.new["n"] for entry in Entry.objects.order_by("id")] == list(range(10))
    assert Subject.objects.count() == 10
    assert sealing.seal() == 10
    assert is_intact()


def test_a_batch_takes_two_statements(partner: Partner) -> None:
    happened = [AuditEvent("partner.changed", partner) for _ in range(40)]
    now = database_now()
    with CaptureQueriesContext(connection) as queries:
        record_many(happened, by=ALICE, now=now)
    assert len(queries) == 2


def test_a_duplicate_key_rolls_all_entries_back(partner: Partner) -> None:
    happened = [AuditEvent("step.done", partner, key=key) for key in ("a", "b", "a")]
    with pytest.raises(IntegrityError), transaction.atomic():
        record_many(happened, by=ALICE, now=database_now())
    assert not Entry.objects.exists()
    assert not Subject.objects.exists()


def test_no_events_take_no_statement() -> None:
    now = database_now()
    with CaptureQueriesContext(connection) as queries:
        assert record_many([], by=ALICE, now=now) == 0
    assert not queries.captured_queries
