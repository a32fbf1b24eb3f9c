"""The texts of mails to our own people that code has to choose: titles, lists of names, reasons and facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from as2certs.time_format import format_exact_moment, format_moment, format_relative_day
from identities.role_assignments import certificates_by_role
from identities.stations import AbstractCertificate
from rotations.models import Rotation, rehearsal
from rotations.models.readiness import NotReady, Readiness, list_not_ready, list_unchanged, own_open_titles
from rotations.notifications.expiry import ExpiringCertificate
from rotations.notifications.recipients import Recipient
from rotations.notifications.thresholds import Outlook
from rotations.planning.states import RotationState

#: How many partners are named in a list of those that are not ready.
MAX_NOT_READY = 5
#: How many partners that have not changed are named before the last moment.
MAX_UNCHANGED = 20
#: How many partners are named in a sentence or a subject.
MAX_IN_SENTENCE = 3

#: The rows of the table in a mail: label and value.
Facts = list[tuple[str, str]]


@dataclass(frozen=True)
class SilentPartner:
    """A partner that does not answer: whom to call (name, phone number), and what was tried."""

    partner: str
    status: str
    people: Sequence[tuple[str, str]]
    tried: str
    obstacle: str

    @property
    def is_unreachable(self) -> bool:
        """Return whether no mail reaches anybody there."""
        return bool(self.obstacle)


def silent_verb(partners: Sequence[SilentPartner]) -> str:
    """Return the predicate of a sentence about silent partners."""
    if all(partner.is_unreachable for partner in partners):
        return "can’t be reached by mail"
    return "has not answered" if len(partners) == 1 else "have not answered"


def join_names(names: Sequence[str]) -> str:
    """Return all names: "Contoso, Fabrikam and Northwind"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def shorten_names(names: Sequence[str], limit: int) -> str:
    """Return the first names of a list: "Northwind, Contoso and 3 more"."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def format_names(names: Sequence[str]) -> str:
    """Return the first names of a list for a sentence: "Fabrikam, Northwind and 3 more"."""
    if len(names) > MAX_IN_SENTENCE:
        return f"{', '.join(names[: MAX_IN_SENTENCE - 1])} and {len(names) - MAX_IN_SENTENCE + 1} more"
    return join_names(names)


def explain_late(start: datetime | None, end: datetime | None, not_after: datetime, zone: str) -> str:
    """Return why a rotation would come too late, in one sentence."""
    if start is None or end is None:
        return "No window is agreed yet."
    if start >= not_after:
        return f"Its window starts only after that: {format_exact_moment(start, zone, 'offset')}."
    return f"Its window ends only after that: {format_exact_moment(end, zone, 'offset')}."


def rotation_note(certificate: ExpiringCertificate, zone: str) -> str:
    """Return a note on the rotation that replaces an expiring certificate, or on its absence."""
    rotation = certificate.rotation
    if rotation is None:
        return "No rotation is set up."
    if rotation.outlook is Outlook.TOO_LATE:
        late = explain_late(rotation.window_start, rotation.window_end, certificate.not_after, zone)
        return f"Its rotation would come too late. {late}"
    if rotation.outlook is Outlook.OVERDUE:
        return "The window of its rotation is over, and the change was not made."
    if rotation.state is RotationState.DRAFT:
        return "Its rotation is a draft: nobody has approved it yet."
    return "Its rotation has no window yet."


def format_title(name: str, is_test: bool) -> str:
    """Return a station's name, with the prefix TEST for a test station."""
    return f"TEST {name}" if is_test and not name.upper().startswith("TEST ") else name


@dataclass(frozen=True)
class NotReadyText:
    """The names of the partners that are not ready, with reasons, and what that means for the change."""

    names: str
    effect: str


def format_not_ready(rotation: Rotation) -> NotReadyText | None:
    """Return who is not ready: "Northwind (declined), Contoso and 3 more"; None if everybody is."""
    found = list_not_ready(rotation)
    if not found.partners:
        return None
    names = [
        name if readiness is Readiness.NO_ANSWER else f"{name} ({readiness})" for name, readiness in found.partners
    ]
    return NotReadyText(shorten_names(names, MAX_NOT_READY), _not_ready_effect(rotation, found))


def _not_ready_effect(rotation: Rotation, found: NotReady) -> str:
    """Return whether the change is made although partners are not ready."""
    if rotation.steps.for_one_partner().exists():
        decided = "you have decided about it" if found.undecided else "you leave it out"
        return f"The change with each of them waits until it is ready or {decided}; it goes on with the others."
    if found.undecided and found.is_answer_missing:
        return "Until each of them has confirmed, or you have decided about it, the change is not made."
    if found.is_answer_missing:
        return "Until they have confirmed or you leave them out, the change is not made."
    if found.waits_for_us:
        return "They can do nothing before you have done what is open on our side. Until then, the change is not made."
    return "The change does not wait for them."


def format_unchanged(rotation: Rotation) -> list[str]:
    """Return who has not changed where each partner changes when it is ready: "Northwind (has not answered)"."""
    found = list_unchanged(rotation)
    names = [f"{name} ({_unchanged_reason(readiness)})" for name, readiness in found[:MAX_UNCHANGED]]
    return [*names, f"{len(found) - MAX_UNCHANGED} more"] if len(found) > MAX_UNCHANGED else names


def _unchanged_reason(readiness: Readiness) -> str:
    if readiness.is_ready:
        return "ready; we have not changed for it yet"
    return "waived; we change for it just before" if readiness is Readiness.WAIVED else str(readiness)


def last_moment_facts(rotation: Rotation) -> dict[str, Any]:
    """Return what a mail before the last moment of a phased change says that can change, as JSON."""
    assert rotation.window_end is not None  # only rotations with a window have such mails
    return {
        "window_end": rotation.window_end.isoformat(),
        "unchanged": format_unchanged(rotation),
        "own_steps": own_open_titles(rotation),
        "kept_back": explain_kept_back(rotation),
    }


def explain_kept_back(rotation: Rotation) -> str:
    """Return what keeps the change back besides partners and steps: its approval or its rehearsal; "" for nothing."""
    if rotation.is_withdrawn:
        return f"The approval is withdrawn, since {rotation.withdrawn_because}, and nobody has approved it again."
    return rehearsal.rehearsal_obstacle(rotation) if rotation.state == RotationState.EXCHANGING else ""


def readiness_facts(rotation: Rotation) -> dict[str, Any]:
    """Return what a mail before or after the start of a window says that can change, as JSON."""
    assert rotation.window_start is not None  # only rotations with a window have such mails
    outstanding = format_not_ready(rotation)
    return {
        "window": rotation.window_start.isoformat(),
        "outstanding": asdict(outstanding) if outstanding else None,
        "own_steps": own_open_titles(rotation),
        "kept_back": explain_kept_back(rotation),
    }


def format_certificate(certificate: AbstractCertificate, zone: str) -> str:
    """Return a certificate's short fingerprint and its end: "4A:1F:…:9C:07, until 13 Dec 2026"."""
    return f"{certificate.short_name}, until {format_moment(certificate.not_after, zone, 'day')}"


def certificate_facts(rotation: Rotation, reader: Recipient, now: datetime) -> Facts:
    """Return the roles and the old and new certificate of a rotation."""
    old, new, zone = rotation.old, rotation.new, reader.time_zone
    facts = [("Roles", " + ".join(rotation.roles))]
    if old is not None:
        distance = format_relative_day(old.not_after, now, zone)
        facts.append(("Old", f"{format_certificate(old, zone)} ({distance})"))
    if new is not None:
        facts.append(("New", format_certificate(new, zone)))
    return facts


def in_use_facts(rotation: Rotation, reader: Recipient) -> Facts:
    """Return the certificates that are assigned now to each role of a rotation: one query."""
    assigned = certificates_by_role(rotation.holder)
    return [
        ("In use", f"to {role}: {', '.join(format_certificate(one, reader.time_zone) for one in assigned[role])}")
        for role in rotation.roles
        if assigned[role]
    ]


def window_facts(rotation: Rotation, reader: Recipient) -> Facts:
    """Return the window in the reader's time zone, in UTC, and in the zone in which it was agreed."""
    start = rotation.window_start
    if start is None:
        return [("Window", "not agreed yet")]
    facts = [("Window", rotation.format_window(reader.time_zone))]
    if reader.time_zone != "UTC":
        facts.append(("in UTC", rotation.format_window("UTC")))
    if rotation.window_zone and rotation.window_zone not in (reader.time_zone, "UTC"):
        facts.append(("as agreed", f"{rotation.format_window(rotation.window_zone)} ({rotation.window_zone})"))
    return facts


def utc_fact(label: str, at: datetime, reader: Recipient) -> Facts:
    """Return a moment in UTC; nothing if that is the reader's time zone."""
    return [] if reader.time_zone == "UTC" else [(label, format_moment(at, "UTC", "offset"))]
