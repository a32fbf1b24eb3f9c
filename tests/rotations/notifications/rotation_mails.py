"""What tests of mails about rotations share: steps and participants, and the queued mails."""

from __future__ import annotations

from typing import Any

from as2certs.mail.models import Message
from rotations.models import Participant, Rotation, Step
from tests.rotations.notifications.expiries import (
    make_partner,
)


def step(of: Rotation, **columns: Any) -> Step:
    given = {"position": 1, "key": "cut_over:1", "who": "we", "act": "cut_over", "title": "Sign with C2"}
    return Step.objects.create(rotation=of, **{**given, **columns})


def subjects() -> list[tuple[str, str]]:
    return list(Message.objects.order_by("id").values_list("to_address", "subject"))


def only() -> Message:
    return Message.objects.get()


def join(of: Rotation, name: str, install: str = "waiting", *, blocked: bool = False, **columns: Any) -> Participant:
    """Store a participant whose step of installing is in this state."""
    participant = Participant.objects.create(rotation=of, partner=make_partner(name), **columns)
    key, title = f"install:{name}", "Add C2"
    step(
        of, key=key, act="install", who="partner", title=title, state=install, blocked=blocked, participant=participant
    )
    return participant
