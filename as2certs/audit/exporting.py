"""Export the trail: JSON lines to verify it, CSV to read it. Both are streamed, in the order of the chain."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from as2certs.audit.chain import ENTRY_COLUMNS, SEAL_COLUMNS, EntryData, read_in_batches, to_json_line
from as2certs.audit.models import EntryQuerySet

COLUMNS = (*ENTRY_COLUMNS, "subjects", *SEAL_COLUMNS)


def json_lines(entries: EntryQuerySet, upto: int) -> Iterator[bytes]:
    """Yield the sealed entries up to a position as lines of JSON, in the form that is hashed."""
    for rows in read_in_batches(entries, after=0, upto=upto):
        yield b"".join(to_json_line(entry).encode() + b"\n" for entry in rows)


def csv_lines(entries: EntryQuerySet, upto: int) -> Iterator[bytes]:
    """Yield the sealed entries up to a position as CSV; nested values are JSON in a cell."""
    yield b"\xef\xbb\xbf"  # without a byte order mark, Excel assumes another encoding
    yield _csv_bytes([list(COLUMNS)])
    for rows in read_in_batches(entries, after=0, upto=upto):
        yield _csv_bytes([[_csv_cell(entry, name) for name in COLUMNS] for entry in rows])


def _csv_bytes(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _csv_cell(entry: EntryData, name: str) -> str:
    value = entry[name]
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False, sort_keys=True)
    text = "" if value is None else str(value)
    # A spreadsheet would evaluate it as a formula.
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") and text else text


@dataclass(frozen=True)
class ExportFormat:
    """A file format of the export."""

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
