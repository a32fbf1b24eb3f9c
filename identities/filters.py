"""Filters of the lists of identities, AS2 systems and certificates."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import django_filters
from django import forms
from django.db.models import Exists, OuterRef, Q, QuerySet

from as2certs import pki
from as2certs.clock import database_now
from as2certs.text_index import contains, filter_by_any
from identities.models import AS2System, Identity, IdentityCertificate, IdentityService
from identities.stations import Environment

EXPIRY_CHOICES = [
    ("7", "in 7 days"),
    ("30", "in 30 days"),
    ("60", "in 60 days"),
    ("90", "in 90 days"),
    ("expired", "has expired"),
]

_HEX = re.compile(r"[0-9a-f]{4,64}")


def search_field(placeholder: str) -> dict[str, Any]:
    """Return the arguments of a filter's search field with a placeholder."""
    widget = forms.TextInput(attrs={"type": "search", "placeholder": placeholder, "maxlength": 200})
    return {"label": "Search", "widget": widget}


class ArchivedFilter(django_filters.ChoiceFilter):
    """Exclude archived rows by default."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("label", "Archived")
        super().__init__(
            choices=[("only", "only archived"), ("all", "with archived")], empty_label="left out", **kwargs
        )

    def filter(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        if value == "all":
            return queryset
        return queryset.filter(archived_at__isnull=value != "only")


def search_stations(queryset: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
    """Filter stations by words in name, AS2 ID or notes."""
    return filter_by_any(queryset, [contains(queryset.model, ("name", "as2_id", "notes"), value.strip())])


def expires_within(value: str, now: datetime) -> Q:
    """Return the condition on a certificate for a value of EXPIRY_CHOICES."""
    if value == "expired":
        return Q(not_after__lt=now)
    return Q(not_after__gte=now, not_after__lte=now + timedelta(days=int(value)))


def filter_by_expiry(service: type[Any], holder: str) -> Callable[[QuerySet[Any], str, str], QuerySet[Any]]:
    """Return the filter method for stations by the expiry of their certificates in use."""

    def method(queryset: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        ending = service._default_manager.filter(
            **{holder: OuterRef("pk")}, ends_at=None, certificate__in=_expiring_certificates(service, value)
        )
        return queryset.filter(Exists(ending))

    return method


def _expiring_certificates(service: type[Any], value: str) -> QuerySet[Any]:
    certificates = service._meta.get_field("certificate").related_model._default_manager
    ending: QuerySet[Any] = certificates.filter(expires_within(value, database_now())).values("pk")
    return ending


def certificate_search_conditions(model: type[Any], value: str) -> list[Q]:
    """Return what a search asks for: words of a name, or fingerprint or serial number in any notation."""
    words = value.strip()
    stations = model.holder_model()
    named = stations._default_manager.filter(contains(stations, ("name", "as2_id"), words)).order_by()
    found = [contains(model, ("common_name", "subject"), words), Q(**{f"{model.HOLDER}__in": named.values("pk")})]
    digits = re.sub(r"[\s:.-]", "", words).lower()
    if _HEX.fullmatch(digits):
        found += [fingerprint_begins("sha256", digits), fingerprint_begins("sha1", digits)]
        found.append(Q(serial=str(int(digits, 16))))
    if digits.isdigit():
        found.append(Q(serial=digits))
    with suppress(pki.PkiError):  # words, not a fingerprint
        found.append(Q(sha256=pki.normalise_fingerprint(words)))
    return found


def fingerprint_begins(column: str, digits: str) -> Q:
    """Return the condition that a fingerprint begins with these hex digits (lower case).

    SQLite finds a range of an index, but no beginning of a text.
    """
    return Q(**{f"{column}__startswith": digits, f"{column}__gte": digits, f"{column}__lte": f"{digits}g"})


class IdentityFilter(django_filters.FilterSet):
    q = django_filters.CharFilter(method=search_stations, **search_field("Name or AS2 ID"))
    environment = django_filters.ChoiceFilter(choices=Environment.choices, empty_label="any")
    as2_system = django_filters.ModelChoiceFilter(
        label="AS2 system", queryset=AS2System.objects.active(), empty_label="any", null_label="none"
    )
    expires = django_filters.ChoiceFilter(
        label="Certificate ends",
        choices=EXPIRY_CHOICES,
        empty_label="any time",
        method=filter_by_expiry(IdentityService, "identity"),
    )
    archived = ArchivedFilter()

    class Meta:
        model = Identity
        fields: list[str] = []


class SystemFilter(django_filters.FilterSet):
    q = django_filters.CharFilter(field_name="name", lookup_expr="icontains", **search_field("Name"))
    environment = django_filters.ChoiceFilter(choices=Environment.choices, empty_label="any")
    archived = ArchivedFilter()

    class Meta:
        model = AS2System
        fields: list[str] = []


class CertificateFilter(django_filters.FilterSet):
    """Certificates of identities, or of partners in a subclass; by default only those in use."""

    HOLDER = "identity"
    SERVICE: type[Any] = IdentityService

    q = django_filters.CharFilter(method="search", **search_field("Name, fingerprint or serial number"))
    environment = django_filters.ChoiceFilter(
        label="Environment", choices=Environment.choices, empty_label="any", method="in_environment"
    )
    expires = django_filters.ChoiceFilter(label="Ends", choices=EXPIRY_CHOICES, empty_label="any time", method="ending")
    serves = django_filters.ChoiceFilter(label="In use", choices=[], empty_label="in any role", method="serving")

    class Meta:
        model = IdentityCertificate
        fields: list[str] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.filters["serves"].extra["choices"] = [
            *((role, f"as {role}") for role in self._holder().ROLES),
            ("no", "not in use"),
            ("all", "in use or not"),
        ]

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        narrowed: QuerySet[Any] = super().filter_queryset(queryset)
        if not self.form.cleaned_data.get("serves"):
            narrowed = narrowed.filter(Exists(self._service()))
        return narrowed

    def search(self, queryset: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        return filter_by_any(queryset, certificate_search_conditions(queryset.model, value))

    def in_environment(self, queryset: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        return queryset.filter(**{f"{self.HOLDER}__environment": value})

    def ending(self, queryset: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        return queryset.filter(expires_within(value, database_now()))

    def serving(self, queryset: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        if value == "all":
            return queryset
        if value == "no":
            return queryset.filter(~Exists(self._service()))
        return queryset.filter(Exists(self._service().filter(role=value)))

    def _holder(self) -> Any:
        return self.SERVICE._meta.get_field(self.HOLDER).related_model

    def _service(self) -> QuerySet[Any]:
        rows: QuerySet[Any] = self.SERVICE._default_manager.filter(certificate=OuterRef("pk"), ends_at=None)
        return rows
