"""Insert and select many rows with few statements."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from types import NoneType
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection, models

T = TypeVar("T")

#: Rows per INSERT statement.
BATCH_SIZE = 1000
#: Parameters per statement that every supported database accepts.
MAX_KEYS = 10_000


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of at most ``size``."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def key_batches(keys: Iterable[int]) -> Iterator[list[int]]:
    """Yield the distinct keys in order, in lists of at most ``MAX_KEYS``, as parameters of a query.

    Instead of a subquery: PostgreSQL plans these badly without statistics of new rows, as after an import.
    """
    yield from in_batches(sorted(set(keys)), MAX_KEYS)


def insert_rows(
    model: type[models.Model],
    names: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    same: Mapping[str, Any] | None = None,
) -> list[int]:
    """Insert rows into a model's table, without instances, and return their keys in the same order.

    ``names`` are the columns of the rows (``partner_id``, not ``partner``), ``same`` has the values that all rows
    share; other columns get the defaults of their fields. As with ``bulk_create``, nothing is validated and no signal
    is sent.
    Call it in a transaction.
    """
    fields = {field.attname: field for field in model._meta.concrete_fields if not field.primary_key}
    differing = [fields.pop(name) for name in names]
    alike = {field: (same or {}).get(name, field.get_default()) for name, field in fields.items()}
    keys: list[int] = []
    add = _postgres_insert if connection.vendor == "postgresql" else _sqlite_insert
    with connection.cursor() as cursor:
        for batch in in_batches(rows, _max_rows(len(differing) + len(alike))):
            statement, values = add(model, differing, batch, alike)
            cursor.execute(statement, values)
            keys += [key for (key,) in cursor.fetchall()]
    return keys


def insert_objects(objects: Sequence[models.Model], names: Sequence[str] = ()) -> None:
    """Insert new objects of one model by ``insert_rows``, and set their keys.

    With ``names``, insert only these columns. The value of a binary column has to be a ``memoryview``.
    """
    if not objects:
        return
    model = type(objects[0])
    read = names or [field.attname for field in model._meta.concrete_fields if not field.primary_key]
    keys = insert_rows(model, read, ([getattr(one, name) for name in read] for one in objects))
    for one, key in zip(objects, keys, strict=True):
        one.pk = key
        one._state.adding, one._state.db = False, connection.alias


def _max_rows(columns: int) -> int:
    """Return the number of rows of one statement."""
    if connection.vendor == "postgresql":
        return BATCH_SIZE  # with one parameter per column
    connection.ensure_connection()
    return min(BATCH_SIZE, connection.connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // columns)


def _postgres_insert(
    model: type[models.Model],
    differing: Sequence[models.Field[Any, Any]],
    rows: Sequence[Sequence[Any]],
    alike: Mapping[models.Field[Any, Any], Any],
) -> tuple[str, list[Any]]:
    types = [str(field.db_type(connection)).partition("(")[0] for field in (*differing, *alike)]
    lists = ", ".join(f"%s::{kind}[]" for kind in types[: len(differing)])
    scalars = "".join(f", %s::{kind}" for kind in types[len(differing) :])
    read = ", ".join(f"new.c{n}" for n in range(len(differing)))
    named = ", ".join(f"c{n}" for n in range(len(differing)))
    new = f"UNNEST({lists}) WITH ORDINALITY AS new ({named}, place)"
    begin = _insert_clause(model, (*differing, *alike))
    statement = f"{begin} SELECT {read}{scalars} FROM {new} ORDER BY place RETURNING id"  # noqa: S608  # names of ours
    columns = [[_driver_value(value) for value in column] for column in zip(*rows, strict=True)]
    return statement, [*(_driver_value(value) for value in alike.values()), *columns]


def _sqlite_insert(
    model: type[models.Model],
    differing: Sequence[models.Field[Any, Any]],
    rows: Sequence[Sequence[Any]],
    alike: Mapping[models.Field[Any, Any], Any],
) -> tuple[str, list[Any]]:
    rest = [_driver_value(value) for value in alike.values()]
    one = f"({', '.join(['%s'] * (len(differing) + len(rest)))})"
    values: list[Any] = []
    for row in rows:
        values += [_driver_value(value) for value in row]
        values += rest
    return (
        f"{_insert_clause(model, (*differing, *alike))} VALUES {', '.join([one] * len(rows))} RETURNING id",
        values,
    )


def _insert_clause(model: type[models.Model], fields: Iterable[models.Field[Any, Any]]) -> str:
    quote = connection.ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in fields)
    return f"INSERT INTO {quote(model._meta.db_table)} ({columns})"


def _driver_value(value: Any) -> Any:
    """Return a value as the database driver expects it."""
    if type(value) in (str, int, bool, NoneType):
        return value
    if isinstance(value, str):  # a choice
        return str(value)
    if isinstance(value, UUID):
        return value if connection.features.has_native_uuid_field else value.hex
    if isinstance(value, datetime):
        return connection.ops.adapt_datetimefield_value(value)
    if isinstance(value, memoryview):  # and not bytes, which may be text that was not decoded
        return value
    if isinstance(value, dict | list):
        return json.dumps(value)
    raise TypeError(f"A {type(value).__name__} can't be added this way.")
