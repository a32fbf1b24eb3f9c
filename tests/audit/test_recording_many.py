"""Thousands of entries are added as one would be: with their subjects, in their order, and none without the rest."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from as2certs.audit import recording, sealing
from as2certs.audit.models import Entry, Subject
from as2certs.audit.recording import Happening, record, record_many
from as2certs.clock import database_now
from partners.models import Contact, Partner
from tests.audit.conftest import ALICE, whole

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
        alone = seen(record("contact.changed", on=contact, also=[partner], by=ALICE, now=now, **options))  # type: ignore[arg-type]
        transaction.set_rollback(True)
    happened = Happening("contact.changed", contact, also=(partner, contact), **options)  # type: ignore[arg-type]
    assert record_many([happened], by=ALICE, now=now) == 1
    assert seen(Entry.objects.get()) == alone


def test_they_keep_their_order_over_batches_and_can_be_sealed(
    partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "BATCH", 4)
    happened = (Happening("partner.changed", partner, new={"n": n}) for n in range(10))
    assert record_many(happened, by=ALICE, now=database_now()) == 10
    assert [entry.new["n"] for entry in Entry.objects.order_by("id")] == list(range(10))
    assert Subject.objects.count() == 10
    assert sealing.seal() == 10
    assert whole()


def test_they_take_two_statements_a_batch(partner: Partner) -> None:
    happened = [Happening("partner.changed", partner) for _ in range(40)]
    now = database_now()
    with CaptureQueriesContext(connection) as queries:
        record_many(happened, by=ALICE, now=now)
    assert len(queries) == 2


def test_a_key_that_is_there_already_undoes_all_of_them(partner: Partner) -> None:
    happened = [Happening("step.done", partner, key=key) for key in ("a", "b", "a")]
    with pytest.raises(IntegrityError), transaction.atomic():
        record_many(happened, by=ALICE, now=database_now())
    assert not Entry.objects.exists()
    assert not Subject.objects.exists()


def test_nothing_that_happened_is_no_statement() -> None:
    now = database_now()
    with CaptureQueriesContext(connection) as queries:
        assert record_many([], by=ALICE, now=now) == 0
    assert not queries.captured_queries
