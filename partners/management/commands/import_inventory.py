"""Import an inventory from a list and a folder of certificates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from partners.errors import ImportRefused, UnreadableList
from partners.importing import csv_rows
from partners.importing.apply import ImportOptions, InventoryImportResult, import_list
from partners.importing.csv_rows import RowProblem
from partners.importing.sources import open_source

#: Number of remarks that are printed; --dry-run -v 2 prints all.
MAX_REMARKS = 50


class Command(BaseCommand):
    help = (
        "Bring partners with their contacts, partnerships and certificates in from a list (CSV); docs/operating.md "
        "names its columns. All of it is checked first, and with an error in any row nothing is stored. What is here "
        "already stays as it is, so a list may be run again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("list", type=Path, metavar="LIST.csv")
        parser.add_argument(
            "--certificates",
            type=Path,
            metavar="FOLDER_OR_ZIP",
            help="where the files lie that the list names",
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, and store nothing")
        parser.add_argument("--skip-faulty", action="store_true", help="leave out rows with errors")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            rows = csv_rows.read_list(_read_bytes(options["list"]))
            with open_source(options["certificates"]) as source:
                result = import_list(
                    rows,
                    source,
                    ImportOptions(options["list"].name, options["dry_run"], options["skip_faulty"]),
                    by=Actor.command("import_inventory"),
                    now=database_now(),
                )
        except ImportRefused as error:
            raise CommandError(str(error)) from error
        self._print_remarks(result.remarks, options["verbosity"])
        for problem in result.errors:
            self.stderr.write(str(problem))
        self.stdout.write(summarize(result))
        if result.errors and not options["skip_faulty"]:
            raise CommandError(
                f"{result.faulty_rows:,} of {result.rows:,} rows have errors, so nothing was stored: mend them, or "
                "leave them out with --skip-faulty."
            )

    def _print_remarks(self, remarks: list[RowProblem], verbosity: int) -> None:
        shown = remarks if verbosity > 1 else remarks[:MAX_REMARKS]
        for remark in shown:
            self.stdout.write(f"Note, {str(remark)[0].lower()}{str(remark)[1:]}")
        if len(shown) < len(remarks):
            self.stdout.write(f"… and {len(remarks) - len(shown):,} more: -v 2 shows all.")


def _read_bytes(path: Path) -> bytes:
    """Return the content of the list, at most one byte more than the maximum. Raises UnreadableList."""
    try:
        with path.open("rb") as file:
            return file.read(csv_rows.MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableList(f"{path} can’t be read: {error.strerror}.") from None


def summarize(result: InventoryImportResult) -> str:
    """Return in a sentence or two what was stored, or would be."""
    if result.is_nothing_new:
        return f"{result.rows:,} rows: nothing of them is new here."
    new = "New" if result.stored else "New would be"
    return (
        f"{result.rows:,} rows. {new}: {result.new_objects}. Certificates used at once: {result.in_service:,}; waiting "
        f"for a rotation, since another one is in use or it is not valid yet: {result.waiting:,}."
    )
