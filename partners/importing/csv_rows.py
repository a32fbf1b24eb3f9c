"""Parse a CSV list of partners. Pure: no database, no files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from as2certs import pki
from as2certs.one_line import is_one_line
from identities.capabilities import SOFTWARE_CHOICES
from partners.errors import UnreadableList

#: Maximum size of a list; 20,000 rows take 2 to 4 MiB.
MAX_BYTES = 16 * 1024 * 1024
MAX_ROWS = 20_000

ROLES = ("verify", "encrypt")

#: The columns, with other accepted headings.
COLUMNS: dict[str, tuple[str, ...]] = {
    "side": ("kind",),
    "name": ("partner", "partner name"),
    "as2_id": ("as2 id", "as2 identifier"),
    "environment": ("env",),
    "url": ("as2 url",),
    "time_zone": ("zone", "timezone"),
    "software": ("as2 software",),
    "contact_name": ("contact",),
    "contact_email": ("email", "e mail", "contact e mail"),
    "contact_phone": ("phone", "telephone"),
    "connected_with": ("identity", "identities", "our as2 id", "our as2 ids"),
    "certificate": ("certificate file", "file"),
    "roles": ("role",),
}
_COLUMN_BY_HEADING = {
    spelled: name for name, others in COLUMNS.items() for spelled in (name.replace("_", " "), *others)
}
#: As spreadsheets write a GLN or DUNS number of many digits.
_ROUNDED_NUMBER = re.compile(r"\d([.,]\d+)?[eE]\+\d{1,3}")
_REQUIRED = ("name", "as2_id")


@dataclass(frozen=True)
class RowProblem:
    """What is wrong with a row and what to do, in one or two sentences. ``line`` is its first line in the file."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"Line {self.line}: {self.text}"


@dataclass(frozen=True)
class ListRow:
    """One row with stripped cells; missing ones are empty."""

    line: int
    name: str
    as2_id: str
    environment: str
    url: str
    time_zone: str
    software: str
    contact_name: str
    contact_email: str
    contact_phone: str
    connected_with: str
    certificate: str
    roles: tuple[str, ...]

    @property
    def station(self) -> tuple[str, str]:
        """Return what identifies a partner: AS2 ID and environment."""
        return self.as2_id, self.environment


@dataclass(frozen=True)
class ParsedList:
    """The valid rows of a list, and what is wrong with the others."""

    rows: list[ListRow]
    errors: list[RowProblem]

    @property
    def total(self) -> int:
        """Return the number of all rows."""
        return len(self.rows) + len({error.line for error in self.errors})


def read_list(data: bytes) -> ParsedList:
    """Parse a list in UTF-8 with commas, semicolons or tabs. Raises UnreadableList for other data."""
    text = _decode(data)
    rows, errors = [], []
    try:
        for line, cells in _read_records(text):
            found = _parse_row(line, cells)
            if isinstance(found, ListRow):
                rows.append(found)
            else:
                errors += found
    except csv.Error as error:
        raise UnreadableList(
            f"The list can't be read as CSV ({error}): look for a quotation mark that is never closed, or save it anew."
        ) from None
    if not rows and not errors:
        raise UnreadableList("The list has a row of heads and nothing below it: add a row for each partner.")
    return ParsedList(rows, errors)


def _decode(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise UnreadableList(
            f"The list is larger than {MAX_BYTES // 1024 // 1024} MiB: cut it into several, each with the first row."
        )
    if pki.contains_private_key(data):
        raise UnreadableList(
            "The list holds a private key, which must never stand in a list: nothing of it was kept. Treat that key as "
            "compromised, and take it out."
        )
    if data[:4] == b"PK\x03\x04":
        raise UnreadableList(
            "This is a workbook (.xlsx) or another archive: save the sheet as “CSV UTF-8” and choose that file."
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnreadableList(
            f"The list is not UTF-8 (see line {line}): save it as “CSV UTF-8”, as spreadsheets offer it."
        ) from None
    if not text.strip():
        raise UnreadableList("The list is empty: it begins with a row of heads.")
    return text


def _read_records(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row that is not empty: its first line, and its cells by column."""
    skipped = 0
    first, _, rest = text.partition("\n")
    if re.fullmatch(r"\s*sep=[,;\t]\s*", first, re.IGNORECASE):  # written by spreadsheet programs
        text, skipped = rest, 1
        first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_detect_delimiter(first), strict=True)
    columns = _parse_headings(next(reader, []))
    before, count = reader.line_num, 0
    for cells in reader:
        line, before = before + 1 + skipped, reader.line_num
        if not any(cell.strip() for cell in cells):
            continue
        count += 1
        if count > MAX_ROWS:
            raise UnreadableList(
                f"The list has more than {MAX_ROWS:,} rows: cut it into several, each with the row of heads."
            )
        if any(cell.strip() for cell in cells[len(columns) :]):
            yield line, {"": str(len(cells))}
            continue
        yield line, {name: cell.strip() for name, cell in zip(columns, cells, strict=False)}


def _detect_delimiter(first: str) -> str:
    """Return the delimiter that is most frequent in the first row."""
    return max(",;\t", key=first.count)


def _parse_headings(cells: Iterable[str]) -> list[str]:
    columns = []
    for cell in cells:
        heading = " ".join(re.sub(r"[_\-]", " ", cell).lower().split())
        if heading and heading not in _COLUMN_BY_HEADING:
            raise UnreadableList(
                f"There is no column “{_display_text(cell)}”. The columns are: {', '.join(COLUMNS)}. Take it out."
            )
        name = _COLUMN_BY_HEADING.get(heading, "")
        if name and name in columns:
            raise UnreadableList(f"The list has two columns “{name}”: take one out.")
        columns.append(name)
    while columns and not columns[-1]:
        columns.pop()
    if missing := [name for name in _REQUIRED if name not in columns]:
        raise UnreadableList(
            f"The first row has no head “{missing[0]}”. The columns are: {', '.join(COLUMNS)}; "
            f"{' and '.join(_REQUIRED)} are needed, the others are not."
        )
    return columns


def _parse_row(line: int, cells: dict[str, str]) -> ListRow | list[RowProblem]:
    errors = list(_cell_errors(cells))
    roles = _parse_roles(cells.get("roles", ""))
    environment = (cells.get("environment", "") or "production").lower()
    if roles is None:
        errors.append(
            f"“{_display_text(cells['roles'])}” is no role of a partner’s certificate: write verify, encrypt, or both."
        )
    if environment not in ("production", "test"):
        errors.append(f"“{_display_text(environment)}” is no environment: write production or test, or leave it empty.")
    software = _parse_software(cells.get("software", ""))
    if software is None:
        errors.append(
            f"“{_display_text(cells['software'])}” is no AS2 software that is known here: write one of "
            f"{', '.join(name for _, name in SOFTWARE_CHOICES)}, or leave the cell empty."
        )
    if errors or roles is None:
        return [RowProblem(line, text) for text in errors]
    given = {name: cells.get(name, "") for name in COLUMNS if name != "side"}
    return ListRow(line, **(given | {"environment": environment, "roles": roles, "software": software}))  # type: ignore[arg-type]


def _cell_errors(cells: dict[str, str]) -> Iterator[str]:
    if cells.get(""):
        yield (
            "It has more cells than there are heads: a value with a comma or semicolon in it stands between "
            "quotation marks."
        )
        return
    for name, cell in cells.items():
        if not is_one_line(cell.replace("\n", "") if name == "connected_with" else cell):
            yield f"The column {name} holds a character that can’t be shown, such as a tab or a NUL: type it anew."
    if not cells.get("as2_id"):
        yield "It has no AS2 ID: a partner is known by that and its environment."
    elif _ROUNDED_NUMBER.fullmatch(cells["as2_id"]):
        yield (
            f"The AS2 ID “{_display_text(cells['as2_id'])}” looks like a long number that a spreadsheet rounded: "
            "format the column as text, type the whole number, and save the list again."
        )
    side = cells.get("side", "").lower()
    if side not in ("", "partner"):
        yield (
            f"“{_display_text(side)}” is no side that a list brings in: only partners come this way. Your "
            "own identities are "
            "set up on their page, where a private key is sealed at once."
        )


def _parse_software(text: str) -> str | None:
    """Return the key of a product in a cell, by key or name; None for an unknown one."""
    if not text:
        return ""
    known = {spelled.lower(): key for key, name in SOFTWARE_CHOICES for spelled in (key, name)}
    return known.get(text.lower())


def _parse_roles(text: str) -> tuple[str, ...] | None:
    """Return the roles in a cell, both for an empty one; None for an unknown word."""
    words = set(re.split(r"[\s,;/|+&]+", text.lower().strip())) - {"", "and"}
    if words <= {"both"}:
        return ROLES
    return tuple(role for role in ROLES if role in words) if words <= set(ROLES) else None


def _display_text(text: str) -> str:
    """Return the content of a cell, printable and short enough for a sentence."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text.strip())
    return shown if len(shown) <= 60 else f"{shown[:59]}…"
