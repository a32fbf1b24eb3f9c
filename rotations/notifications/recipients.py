"""Who is notified: owners and subscribers of a station, and administrators if it has no owner."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from django.db.models import Q, prefetch_related_objects

from as2certs.accounts.models import Installation, User
from as2certs.rows import key_batches
from identities.models import Identity
from partners.models import Partner
from rotations.models import Rotation

#: The group whose members are notified if a station has no reachable owner.
FALLBACK_GROUP = "administrator"


@dataclass(frozen=True)
class Recipient:
    """An e-mail address with the name and the time zone of its reader."""

    email: str
    name: str
    time_zone: str
    #: False for the escalation address of the settings, which can't be unsubscribed.
    is_person: bool = True

    @property
    def key(self) -> str:
        """Return the address in lower case, by which recipients are compared."""
        return self.email.lower()

    @classmethod
    def of(cls, user: User) -> Self:
        """Return a user as a recipient."""
        return cls(email=user.email, name=str(user), time_zone=user.time_zone)


def unique_recipients(recipients: Iterable[Recipient]) -> list[Recipient]:
    """Return the recipients without duplicate addresses, keeping the first."""
    found: dict[str, Recipient] = {}
    for recipient in recipients:
        found.setdefault(recipient.key, recipient)
    return list(found.values())


def administrators(*, reminding: bool = False) -> list[Recipient]:
    """Return the administrators; with ``reminding`` only those who get reminders."""
    people = User.objects.filter(Q(groups__name=FALLBACK_GROUP) | Q(is_superuser=True), is_active=True)
    if reminding:
        people = people.filter(wants_reminders=True)
    return unique_recipients(Recipient.of(user) for user in people.exclude(email="").distinct().order_by("pk"))


def escalation_recipient(installation: Installation) -> Recipient | None:
    """Return the address that is also notified of urgent matters, if one is configured."""
    if not installation.escalation_email:
        return None
    return Recipient(email=installation.escalation_email, name="", time_zone=installation.time_zone, is_person=False)


@dataclass(frozen=True)
class HolderRecipients:
    """Owners and subscribers of stations, by the station's primary key."""

    owners: Mapping[int, list[Recipient]]
    subscribers: Mapping[int, list[Recipient]]
    reminding: bool = False

    @cached_property
    def last_resort(self) -> list[Recipient]:
        """Return the administrators, loaded when first needed."""
        return administrators(reminding=self.reminding)

    def of(self, station: int) -> list[Recipient]:
        """Return the recipients for a station, each address once."""
        owners, subscribers = self.owners.get(station) or self.last_resort, self.subscribers.get(station, [])
        return owners if len(owners) == 1 and not subscribers else unique_recipients([*owners, *subscribers])


def recipients_of(
    model: type[Identity] | type[Partner], stations: Collection[int], *, reminding: bool = False
) -> HolderRecipients:
    """Return the recipients for these stations (primary keys), in at most three queries per batch.

    With ``reminding`` only users who get reminders count; a station without such an owner has none.
    """
    return HolderRecipients(
        owners=_linked_users(model, "owners", stations, reminding=reminding),
        subscribers=_linked_users(model, "subscribers", stations, reminding=reminding),
        reminding=reminding,
    )


def _linked_users(
    model: type[Identity] | type[Partner], field: str, stations: Collection[int], *, reminding: bool
) -> Mapping[int, list[Recipient]]:
    station = f"{model._meta.model_name}_id"
    wanted = {"user__wants_reminders": True} if reminding else {}
    links = getattr(model, field).through._default_manager.filter(user__is_active=True, **wanted)
    found: dict[int, list[Recipient]] = defaultdict(list)
    known: dict[tuple[str, ...], Recipient] = {}  # shared by the stations of one person
    for batch in key_batches(stations):
        rows = (
            links.filter(**{f"{station}__in": batch})
            .exclude(user__email="")
            .order_by("pk")
            .values_list(
                station,
                "user__email",
                "user__first_name",
                "user__last_name",
                "user__username",
                "user__time_zone",
            )
        )
        for pk, *of_person in rows:
            key = tuple(of_person)
            if key not in known:
                email, first, last, username, zone = of_person
                known[key] = Recipient(email=email, name=f"{first} {last}".strip() or username, time_zone=zone)
            found[pk].append(known[key])
    return dict(found)


def recipients_of_rotations(rotations: Sequence[Rotation]) -> dict[int, list[Recipient]]:
    """Return the recipients for each rotation, by primary key: those of its holder, and its author."""
    prefetch_related_objects(rotations, "set_up_by")
    found: dict[int, list[Recipient]] = {}
    for kind in (Identity, Partner):
        holders = {rotation.pk: rotation.holder.pk for rotation in rotations if isinstance(rotation.holder, kind)}
        people = recipients_of(kind, holders.values()) if holders else None
        found |= {key: people.of(holder) for key, holder in holders.items() if people}
    for rotation in rotations:
        author = rotation.set_up_by
        if author is not None and author.is_active and author.email:
            found[rotation.pk] = unique_recipients([*found[rotation.pk], Recipient.of(author)])
    return found
