"""The trail as a file: JSON lines to verify, CSV to read. Both are written while they are read, in their order."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from as2certs.audit import chain as chained
from as2certs.audit.chain import ENTRY_COLUMNS, SEAL_COLUMNS, EntryData
from as2certs.audit.models import EntryQuerySet

COLUMNS = (*ENTRY_COLUMNS, "subjects", *SEAL_COLUMNS)


def json_lines(entries: EntryQuerySet, upto: int) -> Iterator[bytes]:
    """Write sealed entries up to a position as chain.py tells them, one on each line."""
    for rows in chained.read_in_batches(entries, after=0, upto=upto):
        yield b"".join(chained.to_json_line(told).encode() + b"\n" for told in rows)


def csv_lines(entries: EntryQuerySet, upto: int) -> Iterator[bytes]:
    """Write sealed entries up to a position as a table; what is nested is JSON inside a cell."""
    yield b"\xef\xbb\xbf"  # without this mark, Excel takes names for another encoding
    yield _csv_bytes([list(COLUMNS)])
    for rows in chained.read_in_batches(entries, after=0, upto=upto):
        yield _csv_bytes([[_csv_cell(told, name) for name in COLUMNS] for told in rows])


def _csv_bytes(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _csv_cell(told: EntryData, name: str) -> str:
    value = told[name]
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False, sort_keys=True)
    text = "" if value is None else str(value)
    # A spreadsheet would run it as a formula.
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") and text else text


@dataclass(frozen=True)
class ExportFormat:
    """A kind of file, and how it is written."""

    label: str
    meant_for: str
    content_type: str
    write: Callable[[EntryQuerySet, int], Iterator[bytes]]


EXPORT_FORMATS = {
    "jsonl": ExportFormat(
        "JSON lines (.jsonl)", "everything, so that it can be verified", "application/jsonl", json_lines
    ),
    "csv": ExportFormat("CSV (.csv)", "for a spreadsheet", "text/csv; charset=utf-8", csv_lines),
}
