"""The last that was heard of each partner: who said what, when, in which words. It is read off the trail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Max

from as2certs.audit.entry_text import RESPONSE_TEXTS
from as2certs.audit.models import Entry, Subject, object_reference
from rotations.models import Rotation


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
    entries = Subject.objects.filter(kind=kind, uid=uid, entry__verb__in=list(RESPONSE_TEXTS)).values("entry")
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
    return PartnerResponse(entry.at, who, RESPONSE_TEXTS[entry.verb](entry.new), entry.reason)
