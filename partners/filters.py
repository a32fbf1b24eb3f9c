"""Filters of the lists of partners and their certificates."""

from __future__ import annotations

from functools import reduce
from operator import and_, or_
from typing import Any
from uuid import UUID

import django_filters
from django import forms
from django.db.models import Exists, OuterRef, Q, QuerySet

from identities.capabilities import SOFTWARE_CHOICES, Support
from identities.filters import (
    EXPIRY_CHOICES,
    ArchivedFilter,
    CertificateFilter,
    filter_by_expiry,
    search_field,
    search_stations,
)
from identities.stations import Environment
from partners.models import Partner, PartnerCertificate, PartnerService, Partnership


class PartnerFilter(django_filters.FilterSet):
    q = django_filters.CharFilter(method=search_stations, **search_field("Name or AS2 ID"))
    environment = django_filters.ChoiceFilter(choices=Environment.choices, empty_label="any")
    software = django_filters.ChoiceFilter(label="AS2 software", choices=SOFTWARE_CHOICES, empty_label="any")
    keeps_both = django_filters.ChoiceFilter(
        label="Keeps both", choices=Support.choices, empty_label="any", method="filter_by_capability"
    )
    expires = django_filters.ChoiceFilter(
        label="Certificate ends",
        choices=EXPIRY_CHOICES,
        empty_label="any time",
        method=filter_by_expiry(PartnerService, "partner"),
    )
    archived = ArchivedFilter()
    identity = django_filters.UUIDFilter(method="connected_with", widget=forms.HiddenInput)

    class Meta:
        model = Partner
        fields: list[str] = []

    def connected_with(self, queryset: QuerySet[Any], name: str, value: UUID) -> QuerySet[Any]:
        shared = Partnership.objects.active().filter(partner=OuterRef("pk"), identity__uid=value)
        return queryset.filter(Exists(shared))

    def filter_by_capability(self, queryset: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        """Return the partners that keep our old and our new certificate, or not; as ``Partner.keeps_both("own")``."""
        fields = ("verifies_messages_with_two", "verifies_mdns_with_two")
        no, yes = (Q(**{f: Support.NO}) for f in fields), (Q(**{f: Support.YES}) for f in fields)
        is_no, is_yes = reduce(or_, no), reduce(and_, yes)
        return queryset.filter({Support.NO: is_no, Support.YES: is_yes}.get(Support(value), ~is_no & ~is_yes))


class PartnerCertificateFilter(CertificateFilter):
    HOLDER = "partner"
    SERVICE = PartnerService

    class Meta:
        model = PartnerCertificate
        fields: list[str] = []
