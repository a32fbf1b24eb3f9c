"""Filters of the page of the trail."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from functools import reduce
from operator import or_
from typing import cast

import django_filters
from django import forms
from django.db import connection
from django.db.models import Q
from django.utils import timezone

from as2certs.audit.models import Entry, EntryQuerySet

#: Kinds of objects to choose from → the nouns with which their verbs begin.
SUBJECT_NOUNS: dict[str, tuple[str, ...]] = {
    "rotations": ("rotation",),
    "freezes": ("freeze",),
    "steps of rotations": ("step",),
    "partners’ parts in rotations": ("participant", "link"),
    "certificates": ("certificate",),
    "private keys": ("key", "request", "vault"),
    "identities": ("identity",),
    "AS2 systems": ("as2system", "system"),
    "partners and contacts": ("partner", "contact", "inventory"),
    "partnerships": ("partnership",),
    "people": ("person", "user"),
    "settings": ("installation", "phrase"),
    "mail": ("mail",),
    "test messages": ("probe",),
    "the trail itself": ("trail",),
}


def day_start(day: date) -> datetime:
    """Return the first moment of a day in the current time zone."""
    return timezone.make_aware(datetime.combine(day, time.min))


#: The distinct verbs, by skipping along their index: a plain DISTINCT would read all of it.
_DISTINCT_VERBS_SQL = """
WITH RECURSIVE found(verb) AS (
    SELECT MIN(verb) FROM audit_entry
    UNION ALL
    SELECT (SELECT MIN(verb) FROM audit_entry WHERE verb > found.verb) FROM found WHERE found.verb IS NOT NULL
)
SELECT verb FROM found WHERE verb IS NOT NULL
"""


def verb_choices() -> list[tuple[str, str]]:
    """Return the verbs in the trail with their labels."""
    with connection.cursor() as cursor:
        cursor.execute(_DISTINCT_VERBS_SQL)
        found = [verb for (verb,) in cursor.fetchall()]
    return [(verb, verb.replace(".", ": ").replace("_", " ")) for verb in found]


class AddressFilter(django_filters.Filter):
    """Filter by an IP address in any spelling."""

    field_class = forms.GenericIPAddressField


class TrailFilter(django_filters.FilterSet):
    """Filter by actor, kind of object, verb, object, source, address and days (of the current time zone, inclusive)."""

    q = django_filters.CharFilter(field_name="object_name", lookup_expr="icontains", label="On what")
    who = django_filters.CharFilter(field_name="actor_name", lookup_expr="icontains", label="Who")
    what = django_filters.ChoiceFilter(
        choices=[(words, words) for words in SUBJECT_NOUNS],
        method="by_subject",
        label="What about",
        empty_label="everything",
    )
    verb = django_filters.ChoiceFilter(choices=verb_choices, label="What exactly", empty_label="everything")
    through = django_filters.ChoiceFilter(
        field_name="source", choices=Entry.Source.choices, label="Through", empty_label="any way"
    )
    address = AddressFilter(label="From address")
    since = django_filters.DateFilter(
        method="by_first_day", label="From", widget=forms.DateInput(attrs={"type": "date"})
    )
    until = django_filters.DateFilter(method="by_last_day", label="To", widget=forms.DateInput(attrs={"type": "date"}))
    about = django_filters.CharFilter(method="by_object", widget=forms.HiddenInput)

    class Meta:
        model = Entry
        fields: list[str] = []

    def by_subject(self, entries: EntryQuerySet, name: str, words: str) -> EntryQuerySet:
        begins = (Q(verb__startswith=f"{noun}.") for noun in SUBJECT_NOUNS[words])
        return entries.filter(reduce(or_, begins))

    def by_first_day(self, entries: EntryQuerySet, name: str, day: date) -> EntryQuerySet:
        return entries.filter(at__gte=day_start(day))

    def by_last_day(self, entries: EntryQuerySet, name: str, day: date) -> EntryQuerySet:
        if day == date.max:
            return entries
        return entries.filter(at__lt=day_start(day + timedelta(days=1)))

    def by_object(self, entries: EntryQuerySet, name: str, about: str) -> EntryQuerySet:
        """Keep the entries about one object, given by kind and public id: "partners.partner:<uid>"."""
        kind, _, uid = about.partition(":")
        return entries.filter(subjects__kind=kind, subjects__uid=uid)

    @property
    def entries(self) -> EntryQuerySet:
        """Return the filtered entries."""
        return cast(EntryQuerySet, self.qs)

    @property
    def is_active(self) -> bool:
        """Return whether any filter is set."""
        return bool(self.active)

    @property
    def active(self) -> dict[str, str]:
        """Return the filters that are set; none if the form is invalid."""
        cleaned = self.form.cleaned_data if self.form.is_valid() else {}
        return {name: str(value) for name, value in cleaned.items() if value}
