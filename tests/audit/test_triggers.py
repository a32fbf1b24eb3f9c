"""Rows of the trail can't be changed or deleted, neither by the ORM nor by SQL."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import DatabaseError, connection, transaction

from as2certs.audit import sealing, triggers
from as2certs.audit.models import Chain, Entry, Subject, TrailIsAppendOnly
from partners.models import Partner
from tests.audit.conftest import add_entries

pytestmark = [pytest.mark.django_db, pytest.mark.on_postgres]


def execute(sql: str, *values: int | str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, values)


@pytest.mark.parametrize(
    "attempt",
    [
        lambda entry: entry.save(),
        lambda entry: entry.delete(),
        lambda entry: Entry.objects.update(verb="x"),
        lambda entry: Entry.objects.filter(pk=entry.pk).delete(),
        lambda entry: Entry._base_manager.update(verb="x"),
        lambda entry: Entry.objects.bulk_update([entry], ["verb"]),
        lambda entry: entry.subjects.all().delete(),
        lambda entry: entry.subjects.update(kind="x"),
        lambda entry: entry.subjects.get().save(),
        lambda entry: entry.subjects.get().delete(),
        lambda entry: Subject._base_manager.update(kind="x"),
    ],
)
def test_the_models_refuse_to_change_or_delete(partner: Partner, attempt: Callable[[Entry], object]) -> None:
    (entry,) = add_entries(partner)
    with pytest.raises(TrailIsAppendOnly):
        attempt(entry)


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit_entry SET reason = 'x' WHERE id = %s",
        "UPDATE audit_entry SET new = '{}' WHERE id = %s",
        "UPDATE audit_entry SET actor_id = 7 WHERE id = %s",
        "UPDATE audit_entry SET id = -id WHERE id = %s",
        "UPDATE audit_entry SET hash = 'x' WHERE id = %s",
        "UPDATE audit_entry SET position = NULL WHERE id = %s",
        "UPDATE audit_entry SET position = 99, reason = 'x' WHERE id = %s",
        "DELETE FROM audit_entry WHERE id = %s",
        "UPDATE audit_subject SET uid = 'x' WHERE entry_id = %s",
        "DELETE FROM audit_subject WHERE entry_id = %s",
    ],
)
def test_the_database_refuses_to_change_or_delete(partner: Partner, sql: str, sealed: bool) -> None:
    (entry,) = add_entries(partner)
    if sealed:
        sealing.seal()
    before = list(Entry.objects.values()), list(Subject.objects.values())
    with pytest.raises(DatabaseError, match=r"A row of the trail is never (changed|deleted)\."):
        execute(sql, entry.pk)
    assert (list(Entry.objects.values()), list(Subject.objects.values())) == before


def test_numbers_in_values_keep_their_spelling_when_sealed(partner: Partner) -> None:
    (entry,) = add_entries(partner)
    with pytest.raises(DatabaseError, match="never changed"):
        execute(
            "UPDATE audit_entry SET position = 1, new = %s WHERE id = %s",
            '{"at": null, "days": 14.0, "late": false, "holds": [], "ratio": 0.50, "time_zone": "Europe/Zürich"}',
            entry.pk,
        )


@pytest.mark.parametrize("table", ["audit_entry", "audit_subject"])
def test_the_database_refuses_to_empty_the_tables(partner: Partner, table: str) -> None:
    if connection.vendor != "postgresql":
        return  # SQLite has no TRUNCATE
    add_entries(partner)
    execute("SET CONSTRAINTS ALL IMMEDIATE")  # so that the tables could be emptied in this transaction
    with pytest.raises(DatabaseError, match="never deleted"):
        execute(f"TRUNCATE {table} CASCADE")
    assert Entry.objects.exists()


def test_a_seal_is_set_once(partner: Partner) -> None:
    (entry,) = add_entries(partner)
    assert sealing.seal() == 1
    with pytest.raises(DatabaseError, match="never changed"):
        execute("UPDATE audit_entry SET position = 2 WHERE id = %s", entry.pk)


def test_only_cut_entries_can_be_deleted(partner: Partner) -> None:
    first, second = add_entries(partner, 2)
    sealing.seal()
    Chain.objects.update(cut_position=1)
    execute("DELETE FROM audit_subject WHERE entry_id = %s", first.pk)
    execute("DELETE FROM audit_entry WHERE id = %s", first.pk)
    for table, column in (("audit_subject", "entry_id"), ("audit_entry", "id")):
        with pytest.raises(DatabaseError, match="never deleted"):
            execute(f"DELETE FROM {table} WHERE {column} = %s", second.pk)  # noqa: S608  # constants


def test_triggers_exist_after_migrations_and_are_recreated() -> None:
    assert triggers.missing_triggers(connection) == []
    triggers.drop_triggers(connection)
    assert len(triggers.missing_triggers(connection)) == 4
    triggers.create_triggers_after_migrate(using="default")
    assert triggers.missing_triggers(connection) == []


def test_a_disabled_trigger_counts_as_missing() -> None:
    if connection.vendor != "postgresql":
        return  # SQLite can't switch one off
    execute("ALTER TABLE audit_entry DISABLE TRIGGER audit_entry_stays")
    assert triggers.missing_triggers(connection) == ["audit_entry_stays"]
    triggers.create_triggers(connection)
    assert triggers.missing_triggers(connection) == []
