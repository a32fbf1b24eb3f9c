"""Helpers for the tests of rotations' pages."""

from __future__ import annotations

from datetime import date, time, timedelta
from typing import Any

from django import forms
from django.test import Client
from django.urls import reverse

from rotations.execution.version_token import rotation_version
from rotations.lifecycle import approval
from rotations.models import Participant, Rotation, Step
from tests.rotations.company import NOW, Company, confirm_all, make_draft

#: A window in ten days, in Chicago: 2026-12-03 22:00 to 23:00 CST.
WINDOW = {
    "window_date": "2026-12-03",
    "window_from": "22:00",
    "window_until": "23:00",
    "window_zone": "America/Chicago",
}
STARTS = NOW + timedelta(days=10, hours=16)


def plan_form(company: Company, **changed: Any) -> dict[str, Any]:
    """Return the data of the form of a rotation; None removes a field."""
    data: dict[str, Any] = {
        "old": str(company.old.uid),
        "roles": ["sign", "decrypt"],
        "successor": "inventory",
        "certificate": str(company.new.uid),
        "grace_days": "14",
        "notes": "",
        **WINDOW,
        # The form warns if the old certificate expires soon after.
        "window_known": "close_to_old_end",
        "generate-kind": "self_signed",
        "generate-bits": "2048",
        "generate-hash_name": "sha256",
        "generate-days": "730",
        "generate-common_name": "ACME-PROD",
        **changed,
    }
    return {name: value for name, value in data.items() if value is not None}


def get_page(client: Client, name: str, *args: object) -> Any:
    return client.get(reverse(name, args=args))


def post_form(client: Client, name: str, *args: object, **data: Any) -> Any:
    return client.post(reverse(name, args=args), data)


def untouched_input(form: forms.BaseForm) -> dict[str, Any]:
    """Return what a browser sends for a form whose fields nobody has touched."""
    posted: dict[str, Any] = {}
    for field in form:
        if "which" in field.name and not getattr(field.field, "choices", ()):
            continue  # not on the page: there is nothing to ask
        value = field.value()
        if isinstance(value, date | time):
            value = field.field.widget.format_value(value)
        if value is not None and value is not False:
            posted[field.html_name] = value
    return posted


def page_text(response: Any) -> str:
    return " ".join(response.content.decode().split())


def make_drafted(company: Company) -> Rotation:
    return make_draft(company, starts=STARTS)


def make_approved(company: Company) -> Rotation:
    return approval.approve(make_drafted(company), by=company.approver, now=NOW)


def make_scheduled(company: Company) -> Rotation:
    """Return an approved rotation with all answers of partners and a finished staging."""
    rotation = make_approved(company)
    confirm_all(rotation, company)
    rotation.steps.filter(act="stage").update(state="done", done_at=NOW)
    rotation.refresh_from_db()
    return rotation


def post_approval(client: Client, rotation: Rotation) -> Any:
    return post_form(client, "rotation-approve", rotation.uid, seen=rotation_version(rotation))


def first_participant(rotation: Rotation) -> Participant:
    return rotation.participants.select_related("partner").order_by("partner__name")[0]


def step_of(rotation: Rotation, act: str) -> Step:
    return rotation.steps.filter(act=act).order_by("position")[0]


def stored_state(rotation: Rotation) -> str:
    return Rotation.objects.values_list("state", flat=True).get(pk=rotation.pk)
