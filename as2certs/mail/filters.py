"""The filters of the list of mails."""

from __future__ import annotations

import django_filters
from django import forms
from django.db.models import Q

from as2certs.clock import database_now
from as2certs.mail.models import Message, MessageQuerySet

STATE_CHOICES = [("stuck", "stuck or given up"), *Message.State.choices]


def _search_input(placeholder: str) -> forms.TextInput:
    return forms.TextInput(attrs={"type": "search", "placeholder": placeholder, "maxlength": 200})


class MessageFilter(django_filters.FilterSet):
    q = django_filters.CharFilter(label="Search", method="search", widget=_search_input("Subject or text"))
    to = django_filters.CharFilter(label="To", method="recipient", widget=_search_input("Name or address"))
    state = django_filters.ChoiceFilter(choices=STATE_CHOICES, empty_label="any", method="in_state")

    class Meta:
        model = Message
        fields: list[str] = []

    def search(self, rows: MessageQuerySet, name: str, value: str) -> MessageQuerySet:
        return rows.filter(Q(subject__icontains=value) | Q(text__icontains=value))

    def recipient(self, rows: MessageQuerySet, name: str, value: str) -> MessageQuerySet:
        return rows.filter(Q(to_address__icontains=value) | Q(to_name__icontains=value))

    def in_state(self, rows: MessageQuerySet, name: str, value: str) -> MessageQuerySet:
        if value == "stuck":
            return rows.filter(pk__in=Message.objects.stuck(database_now()).values("pk"))
        return rows.filter(state=value)
