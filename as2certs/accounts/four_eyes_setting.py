"""Switch four eyes off: never by one administrator alone where there are two, and never for what is set up already.

Switching them on needs nothing of this. What they do to a rotation is in ``rotations.lifecycle.four_eyes``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.urls import reverse

from as2certs.accounts.errors import SettingRefused
from as2certs.accounts.models import Installation, User
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.mail import outbox

ENVIRONMENTS = ("production", "test")
#: The rights with which two people hold four eyes, and what they let one do.
DECIDING_RIGHTS = {"rotations.approve_rotation": "approve rotations", "accounts.change_installation": "administer"}


def fields_switched_off(before: Installation, after: Installation) -> list[str]:
    """Return the environments in which a change of the settings would switch four eyes off."""
    return [
        name
        for name in ENVIRONMENTS
        if getattr(before, f"four_eyes_{name}") and not getattr(after, f"four_eyes_{name}")
    ]


def other_administrators(user: User | None) -> QuerySet[User]:
    """Return the active people who may change the settings, other than this one."""
    everybody = User.objects.with_perm("accounts.change_installation")
    return everybody.exclude(pk=user.pk) if user else everybody


@transaction.atomic
def ask_to_switch_off(environments: Sequence[str], *, by: Actor, now: datetime) -> bool:
    """Ask to switch four eyes off in these environments; return whether they are off, as nobody else has to agree.

    All approvers and administrators get a mail, in either case. The caller has confirmed that it is them.
    """
    installation = locked_installation()
    environments = [name for name in environments if getattr(installation, f"four_eyes_{name}")]
    if not environments:
        return False
    if not other_administrators(by.user).exists():
        _switch_off(installation, environments, by=by, now=now)
        _notify(f"{by.name} switched four eyes off in {_listed(environments)}", _OFF, now=now)
        return True
    installation.four_eyes_off_asked = environments
    installation.four_eyes_off_asked_by, installation.four_eyes_off_asked_at = by.user, now
    installation.save()
    event = AuditEvent("installation.four_eyes_off_asked", installation, new={"environments": environments})
    record(event, by=by, now=now)
    _notify(f"{by.name} asks to switch four eyes off in {_listed(environments)}", _ASKED, now=now)
    return False


@transaction.atomic
def agree_to_switch_off(*, by: Actor, now: datetime) -> None:
    """Switch four eyes off as another administrator asked for. Raises SettingRefused for whoever asked."""
    installation = locked_installation()
    asked, asker = installation.four_eyes_off_asked, installation.four_eyes_off_asked_by
    if not asked:
        raise SettingRefused("Nobody asks to switch four eyes off. Look again at the settings.")
    if by.user is None or by.user == asker:
        raise SettingRefused("You asked for it yourself: another administrator has to agree.")
    _switch_off(installation, asked, by=by, now=now)
    who = f"{by.name} switched four eyes off in {_listed(asked)}, as {asker or 'somebody'} had asked"
    _notify(who, _OFF, now=now)


@transaction.atomic
def keep(*, by: Actor, now: datetime) -> None:
    """Leave four eyes as they are. Raises SettingRefused if nobody asked to switch them off."""
    installation = locked_installation()
    asked = installation.four_eyes_off_asked
    if not asked:
        raise SettingRefused("Nobody asks to switch four eyes off. Look again at the settings.")
    _clear_question(installation)
    installation.save()
    record(AuditEvent("installation.four_eyes_kept", installation, old={"environments": asked}), by=by, now=now)
    _notify(f"{by.name} decided that four eyes stay in {_listed(asked)}", _KEPT, now=now)


def deciding_rights(pk: int | None) -> set[str]:
    """Return what the person with this primary key may decide by now, in words; nothing without an account."""
    person = User.objects.filter(pk=pk).first() if pk else None
    return {text for right, text in DECIDING_RIGHTS.items() if person and person.has_perm(right)}


def notify_of_rights(person: User, *, before: set[str], by: Actor, now: datetime) -> None:
    """Notify approvers and administrators if a person may decide more or less: it may be somebody's second account."""
    after = deciding_rights(person.pk)
    if after != before:
        may = " and ".join(sorted(after))
        what = f"{by.name} let {person} {may}" if after else f"{by.name} lets {person} decide nothing any more"
        _notify(what, _RIGHTS, now=now)


_RIGHTS = (
    "Four eyes are worth as much as the people are two: if you don't know who this is or why, call them, and look at "
    "the account in Django admin."
)
_ASKED = (
    "They hold until another administrator agrees in the settings. If you know nothing of this, call them both before "
    "anybody does."
)
_OFF = (
    "From now on, whoever sets up a rotation there can approve it alone. Rotations that were set up before still need "
    "a second person. If you know nothing of this, call them, and have four eyes switched on again."
)
_KEPT = "Nothing has changed: a second person has to approve each rotation there."


def locked_installation() -> Installation:
    """Return the settings, locked until the end of the caller's transaction; an unsaved row with the defaults."""
    return Installation.objects.select_for_update().filter(pk=1).first() or Installation.current()


def _switch_off(installation: Installation, environments: Sequence[str], *, by: Actor, now: datetime) -> None:
    for name in environments:
        setattr(installation, f"four_eyes_{name}", False)
        setattr(installation, f"four_eyes_{name}_until", now)
    _clear_question(installation)
    installation.save()
    event = AuditEvent("installation.four_eyes_off", installation, new={"environments": list(environments)})
    record(event, by=by, now=now)


def _clear_question(installation: Installation) -> None:
    installation.four_eyes_off_asked = []
    installation.four_eyes_off_asked_by = installation.four_eyes_off_asked_at = None


def _notify(what: str, consequence: str, *, now: datetime) -> None:
    """Queue a mail to everybody who may approve rotations or change the settings, whoever did it included."""
    people = User.objects.with_perm("rotations.approve_rotation") | User.objects.with_perm(
        "accounts.change_installation"
    )
    readers = {person.email.lower(): person for person in people.exclude(email="").order_by("pk")}
    outbox.queue(
        outbox.Mail(
            template="four_eyes",
            key=f"four-eyes:{now.isoformat()}:{address}",
            kind="four_eyes",
            to=person.email,
            to_name=str(person),
            context={
                "what": what,
                "consequence": consequence,
                "button_url": settings.AS2CERTS_BASE_URL + reverse("home"),
            },
            time_zone=person.time_zone,
            now=now,
        )
        for address, person in readers.items()
    )


def _listed(environments: Sequence[str]) -> str:
    return " and ".join(environments)
