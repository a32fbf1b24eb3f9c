"""The report of one rotation for auditors: what and why, who agreed when, on what evidence, and what was done when.

Page and PDF are rendered from the same structure. Times are in UTC; the window is also in the zone of its agreement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from as2certs import pki
from as2certs.accounts.models import Installation
from as2certs.audit import entry_text
from as2certs.audit.models import Entry
from as2certs.time_format import format_utc
from identities.stations import AbstractCertificate
from rotations.exchange.partner_evidence import partner_statuses
from rotations.models import Participant, Rotation, Step
from rotations.models.readiness import count_readiness
from rotations.planning.states import RotationState

#: Entries of the trail in a report; the export of the trail has all of them.
MAX_ENTRIES = 5000


@dataclass(frozen=True)
class ReportTable:
    """A table with its headings, rows of as many cells, and relative widths of the columns in the PDF."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    widths: Sequence[int]


@dataclass(frozen=True)
class ReportSection:
    """A section of the report; ``facts`` are pairs of name and value."""

    title: str
    facts: Sequence[tuple[str, str]] = ()
    table: ReportTable | None = None
    note: str = ""


@dataclass(frozen=True)
class RotationReport:
    """The report of a rotation."""

    title: str
    made_at: str
    made_by: str
    our_name: str
    sections: Sequence[ReportSection]


def build_report(rotation: Rotation, *, by: str, now: datetime, limit: int | None = None) -> RotationReport:
    """Return the report of a rotation, made by the person ``by``; with ``limit``, so many rows of each table."""
    participants = list(rotation.participants.select_related("partner")[:limit])
    steps = list(rotation.steps.select_related("system", "participant__partner").defer("after", "why")[:limit])
    return RotationReport(
        title=f"Certificate rotation of {rotation.holder}",
        made_at=_format_second(now),
        made_by=by,
        our_name=Installation.current().name,
        sections=[
            ReportSection("What and why", facts=_rotation_facts(rotation)),
            _certificate_section(rotation),
            _partner_section(participants, now=now),
            _step_section(steps),
            _trail_section(rotation, min(limit or MAX_ENTRIES, MAX_ENTRIES)),
        ],
    )


def _format_second(at: datetime | None) -> str:
    return format_utc(at, seconds=True) if at else ""


def _rotation_facts(rotation: Rotation) -> list[tuple[str, str]]:
    holder = rotation.holder
    facts = [
        ("Station", f"{holder} ({'our identity' if rotation.side == 'own' else 'trading partner'})"),
        ("AS2 ID", holder.as2_id),
        ("Environment", holder.environment),
        ("Roles", " + ".join(rotation.roles)),
        ("State", rotation.get_state_display()),
        ("Set up", _when_and_who(rotation.set_up_at, rotation.set_up_by)),
        ("Approved", _when_and_who(rotation.approved_at, rotation.approved_by)),
        ("Approval withdrawn", _when_and_who(rotation.withdrawn_at, rotation.withdrawn_because)),
        (
            "Window",
            rotation.format_window(rotation.window_zone or "UTC") if rotation.window_start else "none",
        ),
        ("Window in UTC", rotation.format_window("UTC") if rotation.window_start else ""),
        ("Partners ready", _count_ready(rotation)),
        ("Applied", _format_second(rotation.applied_at)),
        ("Ended", _format_second(rotation.ended_at)),
        ("Old one kept for", f"{rotation.grace_days} days after the window"),
        ("Freeze overridden because", rotation.freeze_reason),
        ("Without rehearsal because", rotation.rehearsal_waived),
        ("Notes", rotation.notes),
    ]
    return [(name, value) for name, value in facts if value]


def _count_ready(rotation: Rotation) -> str:
    """Return how many partners are ready; nothing for a draft, which has asked nobody."""
    count = count_readiness([rotation.pk]).get(rotation.pk)
    return str(count) if count and rotation.state != RotationState.DRAFT else ""


def _when_and_who(at: datetime | None, person: object) -> str:
    return f"{_format_second(at)}, {person}" if at and person else _format_second(at)


def _certificate_section(rotation: Rotation) -> ReportSection:
    names = (
        ("Subject", lambda c: c.subject),
        ("Issuer", lambda c: c.issuer),
        ("Serial number", lambda c: pki.format_fingerprint(_even_digits(f"{int(c.serial):x}"))),
        ("Not before", lambda c: _format_second(c.not_before)),
        ("Not after", lambda c: _format_second(c.not_after)),
        ("Key", lambda c: f"{c.key_type} {c.key_size or ''}".strip()),
        ("Signature", lambda c: c.signature_algorithm),
        ("SHA-256", lambda c: pki.format_fingerprint(c.sha256)),
        ("SHA-1", lambda c: pki.format_fingerprint(c.sha1)),
    )
    pair: tuple[AbstractCertificate | None, ...] = (rotation.old, rotation.new)
    rows = [[name, *(get(c) if c is not None else "none" for c in pair)] for name, get in names]
    return ReportSection("Certificates", table=ReportTable(("", "Old", "New"), rows, (2, 5, 5)))


def _even_digits(digits: str) -> str:
    return digits.zfill(len(digits) + len(digits) % 2)


def _partner_section(participants: Sequence[Participant], *, now: datetime) -> ReportSection:
    words = partner_statuses(participants, now=now)
    rows = [_partner_row(p, str(words.get(p.pk, "")) if not p.is_removed else "left out") for p in participants]
    head = ("Partner", "Comes to", "Told", "Installed", "Window agreed", "After the change", "Words")
    note = "" if rows else "No partner takes part."
    table = ReportTable(head, rows, (3, 3, 3, 4, 3, 3, 5)) if rows else None
    return ReportSection("Partners: who agreed when, on what evidence", table=table, note=note)


def _partner_row(p: Participant, word: str) -> list[str]:
    installed = f"{_format_second(p.confirmed_at)} {p.get_evidence_display()}" if p.confirmed_at else ""
    works = "" if p.works is None else f"{_format_second(p.works_at)} {'works' if p.works else 'does not work'}"
    seen = f"seen with the new one {_format_second(p.migrated_at)}" if p.migrated_at else ""
    notes = [
        p.removed_reason,
        p.waived_reason and f"waived: {p.waived_reason}",
        p.declined_reason and f"said no: {p.declined_reason}",
        p.confirmed_with,
        p.note,
        p.works_note,
    ]
    return [
        f"{p.partner} ({p.partner.as2_id})",
        word,
        _format_second(p.announced_at),
        _join_lines([installed, p.fingerprint and pki.short_fingerprint(p.fingerprint)]),
        _format_second(p.agreed_at),
        _join_lines([works, seen]),
        _join_lines(notes),
    ]


def _join_lines(parts: Iterable[str]) -> str:
    return "\n".join(part for part in parts if part)


def _step_section(steps: Sequence[Step]) -> ReportSection:
    rows = [
        [
            str(step.position),
            "we" if step.who == "we" else "partner",
            step.title,
            step.get_state_display() + (" late" if step.late else ""),
            _format_second(step.done_at),
            _join_lines([step.done_by, step.note, step.error]),
        ]
        for step in steps
    ]
    head = ("", "Who", "What", "State", "When", "By whom, on what evidence")
    note = "" if rows else "No step was planned."
    table = ReportTable(head, rows, (1, 2, 8, 3, 4, 7)) if rows else None
    return ReportSection("What was done where, at which second", table=table, note=note)


def _trail_section(rotation: Rotation, limit: int) -> ReportSection:
    entries = list(Entry.objects.about(rotation).order_by("id")[: limit + 1])
    rows = [
        [
            _format_second(entry.at),
            entry.actor_name,
            _join_lines([f"{entry_text.verb_text(entry.verb)}: {entry.object_name}", _changes(entry)]),
            entry.reason,
            _join_lines([entry.get_source_display(), entry.address or ""]),
        ]
        for entry in entries[:limit]
    ]
    note = f"Only the first {limit} entries are shown." if len(entries) > limit else ""
    head = ("When", "Who", "What", "Why", "Through")
    return ReportSection("Trail", table=ReportTable(head, rows, (4, 4, 9, 6, 3)), note=note)


def _changes(entry: Entry) -> str:
    return "; ".join(
        f"{s.name}: {s.old} → {s.new}" if s.had_old else f"{s.name}: {s.new}" if s.name else s.new
        for s in entry_text.changed_values(entry, "UTC")
    )
