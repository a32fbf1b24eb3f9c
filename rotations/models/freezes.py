"""Periods in which nothing is to be changed."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Self

from django.db import models
from django.db.models import Q

from as2certs.accounts.models import validate_time_zone
from identities.models import Identity
from partners.models import Partner
from rotations.planning import freeze_calendar


class FreezeQuerySet(models.QuerySet["Freeze"]):
    def concerning(self, holder: Identity | Partner, partners: Iterable[Partner]) -> Self:
        """Freezes of the whole installation, of a holder, and of the partners in its rotation."""
        theirs = Q(partner__in=[partner.pk for partner in partners])
        mine = Q(identity=holder) if isinstance(holder, Identity) else Q(partner=holder)
        return self.filter(Q(identity=None, partner=None) | mine | theirs)


class Freeze(models.Model):
    """Days on which nothing is to be changed: everywhere, at one identity, or at one partner."""

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(max_length=120, help_text="Such as “Christmas business”.")
    identity = models.ForeignKey(Identity, null=True, blank=True, on_delete=models.CASCADE, related_name="freezes")
    partner = models.ForeignKey(Partner, null=True, blank=True, on_delete=models.CASCADE, related_name="freezes")
    first = models.DateField("first day")
    last = models.DateField("last day", help_text="Included.")
    zone = models.CharField("on whose calendar", max_length=64, validators=[validate_time_zone])
    rule = models.CharField(
        "comes back",
        max_length=200,
        blank=True,
        help_text="A rule as calendars know it (RRULE), such as FREQ=YEARLY. Empty: only once.",
    )

    objects = FreezeQuerySet.as_manager()

    class Meta:
        ordering = ["first", "id"]
        constraints = [
            models.CheckConstraint(condition=Q(identity=None) | Q(partner=None), name="rotations_freeze_of_one"),
            models.CheckConstraint(condition=Q(last__gte=models.F("first")), name="rotations_freeze_has_length"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def period(self) -> freeze_calendar.FreezePeriod:
        """Return the freeze as the planner takes it."""
        return freeze_calendar.FreezePeriod(self.name, self.first, self.last, self.zone, self.rule)

    def next_occurrence(self, now: datetime) -> tuple[datetime, datetime] | None:
        """Return start and end (UTC) of the current or next occurrence; None when there is none any more."""
        return next(self.period.spans(now, now + timedelta(days=366 * 5)), None)

    @property
    def target(self) -> Identity | Partner | None:
        """Return the identity or partner that must not be changed; None for everything."""
        return self.identity or self.partner
