"""Bulk inserts store the same as single inserts, on both databases."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from as2certs.audit.models import Entry, Subject
from as2certs.rows import BATCH_SIZE, in_batches, insert_rows
from partners.models import Partner

pytestmark = pytest.mark.django_db

NAMES = ("uid", "name", "as2_id")


def add(*names: str) -> list[int]:
    return insert_rows(
        Partner, NAMES, [(uuid.uuid4(), name, name.upper()) for name in names], same={"url": "https://x"}
    )


def test_a_row_gets_the_defaults_of_its_fields() -> None:
    (key,) = add("Nörd’s “%s” \\ 'Co'")
    stored, usual = Partner.objects.get(), Partner(name="Nörd’s “%s” \\ 'Co'", url="https://x")
    usual.as2_id = usual.name.upper()
    for field in Partner._meta.concrete_fields:
        if field.name not in ("id", "uid"):
            assert getattr(stored, field.attname) == getattr(usual, field.attname), field.name
    assert stored.pk == key


def test_keys_are_in_the_order_of_the_rows_across_statements() -> None:
    names = [f"P{n:05}" for n in range(BATCH_SIZE + 7)]
    keys = add(*names)
    assert list(Partner.objects.order_by("name").values_list("pk", flat=True)) == keys
    assert keys == sorted(keys)


def test_datetimes_json_and_null_are_stored_as_by_django() -> None:
    now = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
    columns = {"verb": "x.y", "actor_name": "Ä", "source": "web", "object_kind": "k", "object_uid": "1"}
    new = {"quote": 'it\'s "{1,2}" \\', "nothing": None, "list": [1, 2.5, True], "ü": "\u2028"}
    Entry.objects.create(at=now, address="192.0.2.7", new=new, **columns)
    insert_rows(Entry, ("new", "key"), [(new, None)], same={"at": now, "address": "192.0.2.7", **columns})
    one, other = Entry.objects.order_by("id").values()
    assert {**one, "id": 0} == {**other, "id": 0}


def test_the_constraints_of_the_database_hold() -> None:
    add("A")
    with pytest.raises(IntegrityError), transaction.atomic():
        add("B", "A")
    with pytest.raises(IntegrityError), transaction.atomic():
        insert_rows(Subject, ("entry_id", "kind", "uid"), [(1, "k", None)])
    assert Partner.objects.count() == 1


def test_no_rows_take_no_statement_and_unknown_columns_are_refused() -> None:
    with CaptureQueriesContext(connection) as queries:
        assert add() == []
    assert not queries.captured_queries
    with pytest.raises(TypeError, match="bytes can't be added"):
        insert_rows(Partner, NAMES, [(uuid.uuid4(), b"name", "A")])
    assert list(in_batches([], 3)) == []
