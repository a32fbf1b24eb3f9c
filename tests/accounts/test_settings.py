from __future__ import annotations

import pytest
from django.urls import reverse

from as2certs.accounts.forms import ReminderDaysField
from as2certs.accounts.models import Installation
from as2certs.audit.models import Entry
from tests.people import confirm, log_in, make_person

pytestmark = pytest.mark.django_db


def wishes(**columns: object) -> dict[str, object]:
    return {
        "name": "Meridian Foods",
        "time_zone": "Europe/Berlin",
        "grace_days": "14",
        "reminder_days": "30, 7, 0, -1",
        "escalation_email": "oncall@example.com",
        "escalation_days": "7",
        "email": "edi@example.com",
        "phone": "+49 30 901820",
        "works_from": "08:00",
        "works_until": "17:00",
        "works_days": ["0", "1", "2", "3", "4"],
        "lead_days": "14",
        "second_factor": "optional",
        **columns,
    }


def test_changed_settings_are_recorded() -> None:
    client = log_in(make_person("anna", "administrator"))
    assert client.post(reverse("settings"), wishes(four_eyes_production="on")).status_code == 302
    now = Installation.current()
    assert (now.name, now.four_eyes_production, now.reminder_days) == ("Meridian Foods", True, [30, 7, 0, -1])
    entry = Entry.objects.get(object_kind="accounts.installation")
    assert entry.new["four_eyes_production"] is True
    assert entry.new["reminder_days"] == [30, 7, 0, -1]
    assert "four eyes production" in client.get(reverse("settings")).content.decode()


def test_four_eyes_are_chosen_for_each_environment() -> None:
    client = confirm(log_in(make_person("anna", "administrator")))
    shown = client.get(reverse("settings")).content.decode()
    assert "Four eyes in production" in shown
    assert "Four eyes in test" in shown
    for production, test in ((True, False), (False, True), (True, True), (False, False)):
        ticked = {"four_eyes_production": production, "four_eyes_test": test}
        client.post(reverse("settings"), wishes(**{name: "on" for name, on in ticked.items() if on}))
        now = Installation.current()
        assert now.asks_for_four_eyes(is_test=False) is production
        assert now.asks_for_four_eyes(is_test=True) is test


def test_rehearsals_can_be_required_in_the_settings() -> None:
    client = log_in(make_person("anna", "administrator"))
    assert "Rehearse first" in client.get(reverse("settings")).content.decode()
    assert client.post(reverse("settings"), wishes(require_rehearsal="on")).status_code == 302
    assert Installation.current().require_rehearsal
    assert Entry.objects.get(object_kind="accounts.installation").new["require_rehearsal"] is True
    client.post(reverse("settings"), wishes())
    assert not Installation.current().require_rehearsal


def test_unchanged_settings_are_not_recorded() -> None:
    client = log_in(make_person("anna", "administrator"))
    client.post(reverse("settings"), wishes())
    count = Entry.objects.count()
    client.post(reverse("settings"), wishes())
    assert Entry.objects.count() == count


@pytest.mark.parametrize("role", ["viewer", "operator", "approver"])
def test_others_are_refused(role: str) -> None:
    client = log_in(make_person("vera", role))
    assert client.get(reverse("settings")).status_code == 403
    assert client.post(reverse("settings"), wishes()).status_code == 403
    assert Installation.current().name == "Our company"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("thirty", "“thirty” is not a whole number of days"),
        ("30, 7.5", "“7.5” is not a whole number of days"),
        ("30, 30", "The same day stands twice"),
        ("401", "401 is out of range"),
        ("-31", "-31 is out of range"),
        ("", "This field is required"),
        (" , ;", "This field is required"),
    ],
)
def test_invalid_reminder_days_are_refused_at_their_field(typed: str, said: str) -> None:
    client = log_in(make_person("anna", "administrator"))
    answer = client.post(reverse("settings"), wishes(reminder_days=typed))
    assert answer.status_code == 200
    assert said in answer.content.decode()
    assert not Installation.objects.exists()


@pytest.mark.parametrize(
    ("typed", "days"),
    [("7,30 , 0", [30, 7, 0]), ("90;60\n30", [90, 60, 30]), ("0, −1, -2", [0, -1, -2]), ("+5", [5])],
)
def test_reminder_days_may_have_any_order_and_separator(typed: str, days: list[int]) -> None:
    assert ReminderDaysField().clean(typed) == days


def test_optional_reminder_days_may_be_empty() -> None:
    assert ReminderDaysField(required=False).clean("") is None


def test_reminder_days_are_shown_as_they_are_typed() -> None:
    field = ReminderDaysField()
    assert field.prepare_value([30, 7, -1]) == "30, 7, -1"
    assert not field.has_changed([30, 7, -1], "30, 7, -1")
