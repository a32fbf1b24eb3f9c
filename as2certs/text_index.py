"""Find a part of a text by an index of trigrams, the sequences of three characters of which it consists.

A model names the columns that are indexed in ``SEARCHED``. On PostgreSQL the index is one of the extension ``pg_trgm``,
on SQLite a table of FTS5 that triggers keep up to date. A search finds the same with the index and without it, only
later: texts of one or two characters have no trigram, and the database's user may lack the right to create the
extension.

On SQLite, a migration that recreates a table drops its triggers, so a missing index is created after each ``migrate``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any

from django.apps import AppConfig, apps
from django.db import DatabaseError, connection, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Q, QuerySet
from django.db.models.expressions import RawSQL

log = logging.getLogger(__name__)

#: Up to so many rows are read by their keys. More are found sooner in the order of the list that asks for them.
MAX_FOUND = 1000
#: FTS5 intersects the rows of each trigram; these few leave little to be compared.
MAX_TRIGRAMS = 8

Model = type[models.Model]


def contains(model: Model, columns: Sequence[str], words: str) -> Q:
    """Return the condition that one of these columns, of those in ``SEARCHED``, contains a text in either case."""
    found = reduce(or_, (Q(**{f"{column}__icontains": words}) for column in columns))
    trigrams = _trigrams(words)
    if connection.vendor != "sqlite" or not trigrams or not _has_index(connection, model):
        return found  # PostgreSQL finds the index by itself
    table = _name(model)
    match = " ".join(f'"{trigram}"' for trigram in (t.replace('"', '""') for t in trigrams))
    query = f'SELECT rowid FROM "{table}" WHERE "{table}" MATCH %s'  # noqa: S608  # a name of ours
    candidates = RawSQL(query, [match])  # noqa: S611  # what was asked for is a parameter
    return Q(pk__in=candidates) & found


def filter_by_any(queryset: QuerySet[Any], conditions: Sequence[Q]) -> QuerySet[Any]:
    """Filter a long list by conditions of which one is to be met; each of them has an index of its own.

    Databases use several indexes for an ``OR`` only within one table, so each condition is asked alone, for the keys.
    Where many rows are found, the list is read in its own order, which soon fills a page.
    """
    model = queryset.model
    first, *others = (model._base_manager.filter(one).order_by().values_list("pk", flat=True) for one in conditions)
    keys = first.union(*others, all=True) if others else first
    found = list(keys[: MAX_FOUND + 1])
    if len(found) <= MAX_FOUND:
        return queryset.filter(pk__in=set(found))
    return _filter_by_subquery(queryset, reduce(or_, conditions))


def _filter_by_subquery(queryset: QuerySet[Any], condition: Q) -> QuerySet[Any]:
    """Filter a long list by a condition that many rows meet.

    In the order of an index, SQLite would look up each row of the table, all over the file. As a subquery, it scans
    the table once in its physical order; ``+ 0`` keeps it from looking up the found keys, possibly most of the table,
    one by one instead of following the index of the order.
    """
    if connection.vendor != "sqlite":
        return queryset.filter(condition)
    found = queryset.model._base_manager.filter(condition).order_by().values("pk")
    return queryset.alias(scanned=F("pk") + 0).filter(scanned__in=found)


def _trigrams(words: str) -> list[str]:
    """Return some of the trigrams of a text, spread over all of it; none of a text that is shorter."""
    every = list(dict.fromkeys(words[n : n + 3] for n in range(len(words) - 2)))
    return every[:: -(-len(every) // MAX_TRIGRAMS)] if every else []


# The index itself


def create_after_migrate(sender: AppConfig, using: str, **kwargs: Any) -> None:
    """Create the missing indexes of an app after ``migrate``; ``flush`` sends the same signal, without a plan."""
    if "plan" not in kwargs:
        return
    database = connections[using]
    tables = database.introspection.table_names()
    for model in _indexed_models(sender):
        if model._meta.db_table in tables and not _has_index(database, model):
            _create(database, model)


def unindexed(database: BaseDatabaseWrapper) -> list[str]:
    """Return the tables whose index is missing, in alphabetical order."""
    every = (model for app in apps.get_app_configs() for model in _indexed_models(app))
    return sorted(model._meta.db_table for model in every if not _has_index(database, model))


def _indexed_models(app: AppConfig) -> list[Model]:
    return [model for model in app.get_models() if getattr(model, "SEARCHED", ())]


def _name(model: Model) -> str:
    return f"{model._meta.db_table}_trigrams"


def _has_index(database: BaseDatabaseWrapper, model: Model) -> bool:
    name = _name(model)
    with database.cursor() as cursor:
        if database.vendor == "postgresql":
            cursor.execute("SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass(%s) AND indisvalid", [name])
            return bool(cursor.fetchone()[0])
        names = [name, *_sqlite_triggers(model)]
        marks = ", ".join(["%s"] * len(names))
        cursor.execute(f"SELECT count(*) FROM sqlite_master WHERE name IN ({marks})", names)  # noqa: S608  # marks
        return bool(cursor.fetchone()[0] == len(names))


def _create(database: BaseDatabaseWrapper, model: Model) -> None:
    """Create an index, or log why it can't be created: searches work without it."""
    statements = _postgres_index(model) if database.vendor == "postgresql" else _sqlite_index(model)
    try:
        with transaction.atomic(using=database.alias), database.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    except DatabaseError as error:
        log.warning("Searches in %s read each row, since it has no index: %s", model._meta.db_table, error)


def _postgres_index(model: Model) -> list[str]:
    # As Django compares in either case.
    columns = ", ".join(f'UPPER("{column}"::text) gin_trgm_ops' for column in _columns(model))
    return [
        "CREATE EXTENSION IF NOT EXISTS pg_trgm",
        f'CREATE INDEX "{_name(model)}" ON "{model._meta.db_table}" USING gin ({columns})',
    ]


def _sqlite_index(model: Model) -> list[str]:
    name, table, columns = _name(model), model._meta.db_table, ", ".join(_columns(model))
    return [
        f'DROP TABLE IF EXISTS "{name}"',
        # It holds which rows have which trigram, and nothing else: no texts, no places in them.
        f"""CREATE VIRTUAL TABLE "{name}"
        USING fts5 ({columns}, content='', detail=none, columnsize=0, tokenize='trigram')""",
        f'INSERT INTO "{name}" (rowid, {columns}) SELECT id, {columns} FROM "{table}"',  # noqa: S608  # names of ours
        *(f'DROP TRIGGER IF EXISTS "{trigger}"' for trigger in _sqlite_triggers(model)),
        *(f'CREATE TRIGGER "{trigger}" {rest}' for trigger, rest in _sqlite_triggers(model).items()),
    ]


def _sqlite_triggers(model: Model) -> dict[str, str]:
    """Return trigger → rest of its statement."""
    name, table, columns = _name(model), model._meta.db_table, _columns(model)
    listed, old, new = (", ".join(f"{prefix}{column}" for column in columns) for prefix in ("", "OLD.", "NEW."))
    forget = f'INSERT INTO "{name}" ("{name}", rowid, {listed}) VALUES (\'delete\', OLD.id, {old});'  # noqa: S608  # names of ours
    add = f'INSERT INTO "{name}" (rowid, {listed}) VALUES (NEW.id, {new});'  # noqa: S608  # names of ours
    return {
        f"{name}_insert": f'AFTER INSERT ON "{table}" BEGIN {add} END',
        f"{name}_delete": f'AFTER DELETE ON "{table}" BEGIN {forget} END',
        f"{name}_update": f'AFTER UPDATE OF {listed} ON "{table}" BEGIN {forget} {add} END',
    }


def _columns(model: Model) -> list[str]:
    named = {field.name: str(field.column) for field in model._meta.concrete_fields}
    return [named[name] for name in getattr(model, "SEARCHED", ())]
