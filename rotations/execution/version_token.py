"""Version tokens: a form carries a digest of the facts that its reader saw, and is refused once one has changed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

from django.db import models
from django.db.models import Count, Max, Q, Sum
from django.db.models.functions import Length

from as2certs.audit.models import Subject, object_reference
from as2certs.mail.models import Message
from partners.models import Contact
from rotations.errors import EditConflict
from rotations.models import Link, Participant, Rotation, SlotAnswer, Step


def version_token(facts: object, *, length: int = 24) -> str:
    """Return a digest of facts that JSON can hold; other values count by their text. At most 64 characters."""
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:length]


def require_version(seen: str, current: str, what: str) -> None:
    """Raise EditConflict, which says that ``what`` has changed, unless the token that was seen is the current one."""
    if seen != current:
        raise EditConflict(what)


def rotation_version(rotation: Rotation) -> str:
    """Return the token of what is decided about in a rotation: certificates, roles, window and participants.

    How far the steps have come is not part of it, nor that a successor arrives from the request it was expected from.
    Where a changed plan is to be approved again, its steps are.
    """
    participants = rotation.participants.order_by("pk").values_list(
        "pk", "removed_reason", "window_start", "window_end"
    )
    facts = [
        rotation.roles,
        rotation.old and rotation.old.sha256,
        f"request {rotation.request_id}" if rotation.request_id else rotation.new and rotation.new.sha256,
        rotation.window_start,
        rotation.window_end,
        rotation.window_zone,
        rotation.at_end,
        rotation.grace_days,
        rotation.notes,
        [[pk, bool(removed), start, end] for pk, removed, start, end in participants],
    ]
    if rotation.is_withdrawn:
        steps = rotation.steps.order_by("key").values_list("key", "simultaneous", "automatic", "after")
        facts += [rotation.withdrawn_because, list(steps)]
    return version_token(facts)


def require_rotation_version(rotation: Rotation, seen: str) -> None:
    """Refuse a decision about another version of a rotation than the one that was looked at.

    Call it with the rotation locked. Raises EditConflict.
    """
    require_version(seen, rotation_version(rotation), f"The rotation of {rotation}")


# The page of a rotation

#: With fewer participants than this, a page is derived from all of them each time.
SMALL_ROTATION = 100
#: After so many seconds, what a page derives from the time alone (who is silent, what is open now) is derived anew.
SMALL_PERIOD, LARGE_PERIOD = 60, 300


@dataclass(frozen=True)
class PageState:
    """A token that changes when the page of a rotation would look different, and whether few partners take part.

    ``stored`` is the part of it that does not depend on the time.
    """

    token: str
    stored: str
    is_small: bool


def read_page_state(rotation: Rotation, *, now: datetime) -> PageState:
    """Return the state of a rotation's page in six queries, none of which reads a row for each partner into memory.

    Numbers, newest moments and lengths of texts stand for the rows: what changes a row changes one of these.
    """
    participants = Participant.objects.filter(rotation=rotation).aggregate(**_totals(Participant))
    is_small = participants["pk__count"] < SMALL_ROTATION
    steps = Step.objects.filter(rotation=rotation).order_by().values_list("act", "state", "blocked", "late")
    kind, uid = object_reference(rotation)
    mails = Message.objects.filter(letter__participant__rotation=rotation).order_by("state").values_list("state")
    facts = [
        [getattr(rotation, field.attname) for field in Rotation._meta.concrete_fields],
        rotation.request.state if rotation.request else "",
        sorted(participants.items()),
        sorted(
            map(
                list,
                steps.annotate(
                    number=Count("pk"),
                    tries=Sum("attempts"),
                    done=Max("done_at"),
                    stored=Max("stored_at"),
                    used=Max("in_use_at"),
                    due=Max("due_at"),
                    notes=Sum(Length("note")),
                    errors=Sum(Length("error")),
                ),
            ),
            key=str,
        ),
        list(mails.annotate(number=Count("pk"), last=Max("bounced_at"), bounced=Count("bounced_at"))),
        Link.objects.filter(participant__rotation=rotation).aggregate(
            number=Count("pk"), opened=Count("opened_at"), revoked=Count("revoked_at"), last=Max("pk")
        ),
        SlotAnswer.objects.filter(slot__rotation=rotation).aggregate(
            number=Count("pk"), can=Count("pk", filter=Q(can=True)), last=Max("at")
        ),
        Contact.objects.filter(partner__participations__rotation=rotation).aggregate(
            number=Count("pk"), last=Max("pk"), addresses=Sum(Length("email"))
        ),
        Subject.objects.filter(kind=kind, uid=uid).aggregate(Max("entry_id")),
    ]
    stored = version_token(facts)
    period = int(now.timestamp()) // (SMALL_PERIOD if is_small else LARGE_PERIOD)
    has_come = [moment is not None and moment <= now for moment in (rotation.window_start, rotation.window_end)]
    return PageState(version_token([stored, period, has_come]), stored, is_small)


def _totals(model: type[models.Model]) -> dict[str, models.Aggregate]:
    """Return aggregates by name: how many rows there are, and what stands for the values of each column."""
    found: dict[str, models.Aggregate] = {"pk__count": Count("pk")}
    for field in model._meta.concrete_fields:
        if isinstance(field, models.DateTimeField):
            found[f"{field.name}__count"], found[f"{field.name}__max"] = Count(field.name), Max(field.name)
        elif isinstance(field, models.CharField | models.TextField):
            found[f"{field.name}__sum"] = Sum(Length(field.name))
        elif isinstance(field, models.BooleanField):
            found[f"{field.name}__true"] = Count("pk", filter=Q(**{field.name: True}))
            found[f"{field.name}__false"] = Count("pk", filter=Q(**{field.name: False}))
    return found
