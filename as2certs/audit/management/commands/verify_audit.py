"""Verify the trail."""

from __future__ import annotations

import itertools
import json
import re
from argparse import ArgumentTypeError
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from as2certs.audit import sealing, verification
from as2certs.audit.chain import CHAIN_START, ENTRY_COLUMNS, SEAL_COLUMNS, ChainLink, EntryData
from as2certs.audit.models import Chain, Entry
from as2certs.audit.signing import trail_signer
from as2certs.audit.verification import ChainVerifier, TrailFinding

COLUMNS = {*ENTRY_COLUMNS, *SEAL_COLUMNS, "subjects"}


class Command(BaseCommand):
    help = (
        "Seal what was added to the trail, compute the whole chain again, and name every entry that was changed, "
        "removed, added or moved. Ends with 0 when there is none, otherwise with 1."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--from",
            type=int,
            default=0,
            dest="first",
            metavar="POSITION",
            help="begin there, and believe what is before",
        )
        parser.add_argument(
            "--head",
            action="append",
            default=[],
            type=parse_noted_head,
            metavar="POSITION:HASH",
            help="an end of the chain that was noted earlier, outside the database: it must still be a part of it",
        )
        parser.add_argument(
            "--file",
            type=Path,
            help="verify this file of JSON lines instead, as exported or as cut_audit made it",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["file"]:
            self._verify_file(options["file"])
            return
        sealing.seal(most=None, wait=True)
        chain, last = verification.read_head()
        verifier = ChainVerifier(
            start=_export_start(chain, options["first"]),
            signer=trail_signer(),
            head=ChainLink(chain.position, chain.hash),
            find_position=verification.find_position,
        )
        begin = verifier.end.position + 1
        count = self._write_findings(verification.verify_chain(verifier, chain, last))
        count += self._write_findings(verification.check_noted_heads(options["head"], chain))
        if Chain.objects.filter(pk=1, cut_position__gt=chain.cut_position).exists():
            raise CommandError("The oldest entries were removed by cut_audit meanwhile. Run this again.")
        self._write_notes(verifier)
        self._write_cut_notes(chain, options["head"])
        self._write_summary(verifier, begin, count)
        self.stdout.write(
            f"It ends at {verifier.end.position}:{verifier.end.hash}\n"
            "Keep that line outside this database: given with --head, it shows later that nothing before it is gone."
        )

    def _verify_file(self, path: Path) -> None:
        rows = read_export(path)
        first = next(rows, None)
        if first is None:
            raise CommandError(f"{path} holds no entry.")
        start = ChainLink(first["position"] - 1, first["previous"])
        verifier = ChainVerifier(start=start, signer=trail_signer())
        count = self._write_findings(verifier.check(itertools.chain([first], rows)))
        self._write_notes(verifier)
        self._write_summary(verifier, start.position + 1, count)
        self.stdout.write(
            f"It follows on {start.position}:{start.hash}\nIt ends at {verifier.end.position}:{verifier.end.hash}"
        )

    def _write_findings(self, findings: Iterable[TrailFinding]) -> int:
        """Write findings as they are found, and return their number."""
        count = 0
        for count, finding in enumerate(findings, start=1):  # noqa: B007  # returned below
            self.stdout.write(str(finding))
        return count

    def _write_summary(self, verifier: ChainVerifier, begin: int, count: int) -> None:
        checked = f"{verifier.checked:,} entries checked, from position {begin} to {verifier.end.position}"
        if count:
            raise CommandError(f"The trail was tampered with: {count} findings. {checked}.")
        self.stdout.write(f"The trail is whole: {checked}.")

    def _write_notes(self, verifier: ChainVerifier) -> None:
        if verifier.delayed.count:
            self.stdout.write(
                f"Note: {verifier.delayed.count:,} entries tell of a moment more than an hour away from when they were "
                f"sealed, at position {verifier.delayed}."
            )
        for name, number in verifier.unknown_keys.items():
            self.stdout.write(
                f"Note: {number:,} entries are signed with the key {name}, which comes from none of "
                "AS2CERTS_VAULT_KEYS; what vouches for them is the signature of later ones."
            )

    def _write_cut_notes(self, chain: Chain, heads: Iterable[ChainLink]) -> None:
        if chain.cut_position:
            self.stdout.write(f"Note: entries up to position {chain.cut_position} were removed by cut_audit.")
        if left := Entry.objects.sealed().filter(position__lte=chain.cut_position).count():
            self.stdout.write(f"Note: {left:,} of them are still there. Run cut_audit with --finish.")
        for noted in heads:
            if noted.position < chain.cut_position:
                self.stdout.write(f"Note: the end noted at position {noted.position} can't be compared any more.")


def parse_noted_head(text: str) -> ChainLink:
    """Parse "4711:<64 hex digits>"."""
    if not re.fullmatch(r"[1-9][0-9]{0,17}:[0-9a-f]{64}", text):
        raise ArgumentTypeError("It should be a position, a colon, and a hash of 64 hex digits.")
    position, _, hash = text.partition(":")
    return ChainLink(int(position), hash)


def _export_start(chain: Chain, first: int) -> ChainLink:
    """Return the link before the first entry to verify."""
    if first <= chain.cut_position + 1:
        return ChainLink(chain.cut_position, chain.cut_hash) if chain.cut_position else CHAIN_START
    hash = Entry.objects.sealed().filter(position=first - 1).values_list("hash", flat=True).first()
    if hash is None:
        raise CommandError(f"There is no entry at position {first - 1} to begin behind.")
    return ChainLink(first - 1, hash)


def read_export(path: Path) -> Iterator[EntryData]:
    """Yield the entries of a file of JSON lines."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, start=1):
                entry = json.loads(text)
                if not isinstance(entry, dict) or not entry.keys() >= COLUMNS:
                    raise CommandError(f"{path}, line {number}: this is not an entry of the trail.")
                yield entry
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} can't be read: {error}") from error
