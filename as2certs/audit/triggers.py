"""Database triggers that refuse to change or delete rows of the trail.

They stop mistakes and SQL injection. The owner of the database can drop them, but ``manage.py verify_audit`` finds what
is done then. They permit two things: the seal of an entry, set once, and the deletion of entries up to ``cut_position``
of the chain, which only ``manage.py cut_audit`` moves.

On SQLite, a migration that recreates one of the two tables drops its triggers, so they are created again after each
``migrate``.
"""

from __future__ import annotations

from typing import Any

from django.apps.registry import Apps
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

SEAL_COLUMNS = ("position", "sealed_at", "previous", "hash", "signature", "signed_with")
CHANGE_REFUSED = "A row of the trail is never changed."
DELETION_REFUSED = "A row of the trail is never deleted."

_WAS_CUT = "<= (SELECT cut_position FROM audit_chain WHERE id = 1)"

#: On PostgreSQL: functions, and trigger → (table, rest of its statement).
_POSTGRES_FUNCTIONS = f"""
CREATE OR REPLACE FUNCTION audit_entry_stays() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    otherwise audit_entry;
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.position {_WAS_CUT} THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION '{DELETION_REFUSED}' USING ERRCODE = 'restrict_violation';
    END IF;
    otherwise := NEW;
    {" ".join(f"otherwise.{column} := OLD.{column};" for column in SEAL_COLUMNS)}
    -- *= compares byte by byte: = holds 1 and 1.0 in a JSON value for the same.
    IF OLD.position IS NULL AND NEW.position IS NOT NULL AND otherwise *= OLD THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '{CHANGE_REFUSED}' USING ERRCODE = 'restrict_violation';
END $$;

CREATE OR REPLACE FUNCTION audit_subject_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF (SELECT position FROM audit_entry WHERE id = OLD.entry_id) {_WAS_CUT} THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION '{DELETION_REFUSED}' USING ERRCODE = 'restrict_violation';
    END IF;
    RAISE EXCEPTION '{CHANGE_REFUSED}' USING ERRCODE = 'restrict_violation';
END $$;

CREATE OR REPLACE FUNCTION audit_is_not_emptied() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '{DELETION_REFUSED}' USING ERRCODE = 'restrict_violation';
END $$;
"""  # noqa: S608  # constants
_POSTGRES_TRIGGERS = {
    f"{table}_{name}": (table, f"BEFORE {event} ON {table} FOR EACH {each} EXECUTE FUNCTION {function}()")
    for table in ("audit_entry", "audit_subject")
    for name, event, each, function in (
        ("stays", "UPDATE OR DELETE", "ROW", f"{table}_stays"),
        ("is_not_emptied", "TRUNCATE", "STATEMENT", "audit_is_not_emptied"),
    )
}


def _sqlite_triggers(columns: list[str]) -> dict[str, tuple[str, str]]:
    """Return trigger → (table, rest of its statement); ``columns`` are those of an entry without its seal."""
    same = " AND ".join(f"NEW.{column} IS OLD.{column}" for column in columns)
    entry_was_cut = f"(SELECT position FROM audit_entry WHERE id = OLD.entry_id) {_WAS_CUT}"  # noqa: S608  # a constant
    refused = {
        "audit_entry_keeps": (
            "UPDATE",
            f"NOT (OLD.position IS NULL AND NEW.position IS NOT NULL AND {same})",
            CHANGE_REFUSED,
        ),
        "audit_entry_stays": ("DELETE", f"NOT COALESCE(OLD.position {_WAS_CUT}, FALSE)", DELETION_REFUSED),
        "audit_subject_keeps": ("UPDATE", "TRUE", CHANGE_REFUSED),
        "audit_subject_stays": ("DELETE", f"NOT COALESCE({entry_was_cut}, FALSE)", DELETION_REFUSED),
    }
    return {
        name: (
            table := name.rpartition("_")[0],
            f"BEFORE {event} ON {table} WHEN {when} BEGIN SELECT RAISE(ABORT, '{message}'); END",
        )
        for name, (event, when, message) in refused.items()
    }


def _triggers(connection: BaseDatabaseWrapper) -> dict[str, tuple[str, str]]:
    if connection.vendor == "postgresql":
        return _POSTGRES_TRIGGERS
    with connection.cursor() as cursor:
        described = connection.introspection.get_table_description(cursor, "audit_entry")
    return _sqlite_triggers([column.name for column in described if column.name not in SEAL_COLUMNS])


def missing_triggers(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the names of the triggers that are missing or disabled."""
    query = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    if connection.vendor == "postgresql":
        query = (
            "SELECT tgname FROM pg_trigger WHERE tgenabled IN ('O', 'A') "
            "AND tgrelid IN ('audit_entry'::regclass, 'audit_subject'::regclass)"
        )
    with connection.cursor() as cursor:
        cursor.execute(query)
        there = {name for (name,) in cursor.fetchall()}
    return sorted(set(_triggers(connection)) - there)


def create_triggers(connection: BaseDatabaseWrapper) -> None:
    """Create the triggers that are missing; recreate those that are disabled."""
    wanted, absent = _triggers(connection), missing_triggers(connection)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql" and absent:
            cursor.execute(_POSTGRES_FUNCTIONS)
        for name in absent:
            table, rest = wanted[name]
            if connection.vendor == "postgresql":
                cursor.execute(f"DROP TRIGGER IF EXISTS {name} ON {table}")
            cursor.execute(f"CREATE TRIGGER {name} {rest}")


def drop_triggers(connection: BaseDatabaseWrapper) -> None:
    """Drop the triggers."""
    with connection.cursor() as cursor:
        for name, (table, _) in _triggers(connection).items():
            of = f" ON {table}" if connection.vendor == "postgresql" else ""
            cursor.execute(f"DROP TRIGGER IF EXISTS {name}{of}")


def migrate_up(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Create the triggers in a migration."""
    create_triggers(schema_editor.connection)


def migrate_down(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Drop the triggers and their functions when a migration is reversed."""
    drop_triggers(schema_editor.connection)
    if schema_editor.connection.vendor == "postgresql":
        for name in ("audit_entry_stays", "audit_subject_stays", "audit_is_not_emptied"):
            schema_editor.execute(f"DROP FUNCTION IF EXISTS {name}()")


def create_triggers_after_migrate(using: str, **kwargs: Any) -> None:
    """Create missing triggers after ``migrate``, once the tables exist."""
    connection = connections[using]
    if "audit_chain" in connection.introspection.table_names():
        create_triggers(connection)
