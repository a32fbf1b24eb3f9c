"""Filters of the lists of partners and their certificates."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import django_filters
from django import forms
from django.db.models import Exists, OuterRef, QuerySet

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
    holds = django_filters.ChoiceFilter(label="Holds", choices=Partner.Holds.choices, empty_label="any")
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


class PartnerCertificateFilter(CertificateFilter):
    HOLDER = "partner"
    SERVICE = PartnerService

    class Meta:
        model = PartnerCertificate
        fields: list[str] = []
