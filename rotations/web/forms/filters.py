"""The filters of the list of rotations."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import Q, QuerySet

from as2certs.clock import database_now
from identities.filters import search_field
from identities.stations import Environment
from rotations.models import Rotation, RotationQuerySet
from rotations.planning import states

STATE_CHOICES = [("running", "running"), *states.ROTATION_CHOICES]
ATTENTION_CHOICES = [("attention", "needs somebody"), ("overdue", "is overdue")]
SIDE_CHOICES = [("own", "our certificates"), ("partner", "partners’ certificates")]


class RotationFilter(django_filters.FilterSet):
    q = django_filters.CharFilter(method="search", **search_field("Name or AS2 ID of whose it is"))
    state = django_filters.ChoiceFilter(label="State", choices=STATE_CHOICES, empty_label="any", method="in_state")
    needs = django_filters.ChoiceFilter(
        label="Needs attention", choices=ATTENTION_CHOICES, empty_label="or not", method="needing"
    )
    side = django_filters.ChoiceFilter(choices=SIDE_CHOICES, empty_label="both", label="Side", method="on_side")
    environment = django_filters.ChoiceFilter(
        label="Environment", choices=Environment.choices, empty_label="any", method="in_environment"
    )

    class Meta:
        model = Rotation
        fields: list[str] = []

    def search(self, queryset: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        words = value.strip()
        found = Q()
        for holder in ("identity", "partner"):
            found |= Q(**{f"{holder}__name__icontains": words}) | Q(**{f"{holder}__as2_id__icontains": words})
        return queryset.filter(found)

    def in_state(self, queryset: RotationQuerySet, name: str, value: str) -> QuerySet[Any]:
        return queryset.running() if value == "running" else queryset.filter(state=value)

    def needing(self, queryset: RotationQuerySet, name: str, value: str) -> QuerySet[Any]:
        now = database_now()
        if value == "attention":
            return queryset.needing_attention(now)
        return queryset.overdue(now)

    def on_side(self, queryset: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        return queryset.filter(partner__isnull=value == "own")

    def in_environment(self, queryset: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        return queryset.filter(Q(identity__environment=value) | Q(partner__environment=value))
