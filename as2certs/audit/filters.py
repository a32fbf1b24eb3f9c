"""What people look for in the trail."""

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

#: What the trail speaks about: the words to choose from, and the nouns with which such verbs begin.
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
    "the trail itself": ("trail",),
}


def day_start(day: date) -> datetime:
    """Return the first moment of a day in the reader's zone."""
    return timezone.make_aware(datetime.combine(day, time.min))


#: Each verb that is there by jumping along its index, which a plain DISTINCT would read from end to end.
_DISTINCT_VERBS_SQL = """
WITH RECURSIVE found(verb) AS (
    SELECT MIN(verb) FROM audit_entry
    UNION ALL
    SELECT (SELECT MIN(verb) FROM audit_entry WHERE verb > found.verb) FROM found WHERE found.verb IS NOT NULL
)
SELECT verb FROM found WHERE verb IS NOT NULL
"""


def verb_choices() -> list[tuple[str, str]]:
    """Return the verbs that the trail holds, with words to choose them by."""
    with connection.cursor() as cursor:
        cursor.execute(_DISTINCT_VERBS_SQL)
        found = [verb for (verb,) in cursor.fetchall()]
    return [(verb, verb.replace(".", ": ").replace("_", " ")) for verb in found]


class AddressFilter(django_filters.Filter):
    """By an IP address, however it is spelled."""

    field_class = forms.GenericIPAddressField


class TrailFilter(django_filters.FilterSet):
    """By person, kind of thing or verb, object, way in, address, and days (in the reader's zone, both included)."""

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
    until = django_filters.DateFilter(
        method="by_last_day", label="To", widget=forms.DateInput(attrs={"type": "date"})
    )
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
        """Keep what names one object: ``about`` is its kind and public id, "partners.partner:<uid>"."""
        kind, _, uid = about.partition(":")
        return entries.filter(subjects__kind=kind, subjects__uid=uid)

    @property
    def found(self) -> EntryQuerySet:
        """Return the entries that were asked for."""
        return cast(EntryQuerySet, self.qs)

    @property
    def narrows(self) -> bool:
        """Say whether anything is asked for."""
        return bool(self.asked)

    @property
    def asked(self) -> dict[str, str]:
        """Return what is asked for; nothing when it can't be read."""
        asked = self.form.cleaned_data if self.form.is_valid() else {}
        return {name: str(value) for name, value in asked.items() if value}
