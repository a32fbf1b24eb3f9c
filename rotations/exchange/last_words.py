"""The last that was heard of each partner: who said what, when, in which words. It is read off the trail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Max

from as2certs.audit.models import Entry, Subject, object_reference
from rotations.models import Rotation

#: Entries of the trail that are a partner's word, whoever noted it.
RESPONSE_VERBS = (
    "participant.confirmed",
    "participant.agreed",
    "participant.proposed",
    "participant.declined",
    "participant.slots",
    "participant.said_holds",
    "participant.works",
    "participant.does_not_work",
)


@dataclass(frozen=True)
class PartnerResponse:
    """The last that was heard of a partner: who said what, when, and in which words."""

    at: datetime
    who: str
    what: str
    note: str


def last_responses(rotation: Rotation) -> dict[str, PartnerResponse]:
    """Return what was heard last of each partner of a rotation, by the partner's public id: two queries."""
    kind, uid = object_reference(rotation)
    entries = Subject.objects.filter(kind=kind, uid=uid, entry__verb__in=RESPONSE_VERBS).values("entry")
    newest = (
        Subject.objects.filter(kind="partners.partner", entry__in=entries)
        .values("uid")
        .annotate(last=Max("entry_id"))
        .values_list("uid", "last")
    )
    last = dict(newest)
    found = Entry.objects.in_bulk(list(last.values()))
    return {partner: response_from_entry(found[pk]) for partner, pk in last.items()}


def response_from_entry(entry: Entry) -> PartnerResponse:
    """Return an entry of the trail as a partner's word."""
    who = str(entry.new.get("spoke with") or entry.actor_name)
    return PartnerResponse(entry.at, who, _format_response(entry), entry.reason)


def _format_response(entry: Entry) -> str:
    new = entry.new
    match entry.verb:
        case "participant.confirmed":
            has_it = {"strong": "has it", "weak": "says that it has it"}.get(str(new.get("evidence")))
            return has_it or ("agrees to the window" if new.get("agreed") else "")
        case "participant.agreed":
            return "agrees to the window"
        case "participant.proposed":
            return "would rather have another time"
        case "participant.declined":
            return "says no"
        case "participant.slots":
            can = new.get("can")
            times = (
                f"{len(can)} of the offered times" if isinstance(can, list) else "none of the offered times"
            )
            return f"can at {times}"
        case "participant.said_holds":
            return f"says of its system: {new.get('holds', '')}"
        case "participant.works":
            return "says that it works"
    return "reports that it does not work"
