from __future__ import annotations

import pytest
from django.urls import reverse

from as2certs.accounts.forms import zone_choices
from as2certs.accounts.models import User
from as2certs.audit.models import Entry
from tests.people import PASSWORD, log_in, make_person

pytestmark = pytest.mark.django_db

NEW = "another long password"
CHANGE = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}


def about(**columns: str) -> dict[str, str]:
    return {
        "first_name": "Vera",
        "last_name": "Wolff",
        "email": "vera@example.com",
        "time_zone": "UTC",
        "wants_reminders": "on",
        **columns,
    }


def test_a_person_changes_their_zone_and_times_follow() -> None:
    client = log_in(make_person("vera", "viewer"))
    answer = client.post(reverse("account"), about(time_zone="America/Chicago"), follow=True)
    assert "America/Chicago</a>." in answer.content.decode()
    entry = Entry.objects.get(verb="user.changed")
    assert entry.old["time_zone"] == "UTC"
    assert entry.new["time_zone"] == "America/Chicago"


def test_the_page_shows_user_name_and_roles() -> None:
    text = " ".join(log_in(make_person("vera", "viewer")).get(reverse("account")).content.decode().split())
    assert "You log in as <b>vera</b>. Your part here: viewer." in text


def test_an_unknown_zone_is_refused_at_the_field() -> None:
    client = log_in(make_person("vera", "viewer"))
    answer = client.post(reverse("account"), about(time_zone="Mars/Olympus"))
    assert answer.status_code == 200
    assert "Mars/Olympus is not one of the available choices" in answer.content.decode()
    assert User.objects.get().time_zone == "UTC"


def test_the_form_cannot_grant_rights() -> None:
    client = log_in(make_person("vera", "viewer"))
    client.post(reverse("account"), about(is_staff="on", is_superuser="on", username="root", groups="1"))
    vera = User.objects.get()
    assert (vera.username, vera.is_staff, vera.is_superuser) == ("vera", False, False)


def test_a_zone_with_an_old_name_is_kept() -> None:
    client = log_in(make_person("vera", "viewer", time_zone="US/Central"))
    client.post(reverse("account"), about(time_zone="US/Central"))
    vera = User.objects.get()
    assert (vera.time_zone, vera.last_name) == ("US/Central", "Wolff")


def test_every_region_is_a_choice_and_utc_is_first() -> None:
    assert zone_choices()[0] == ("UTC", "UTC")
    regions = dict(zone_choices())
    assert ("Europe/Berlin", "Berlin") in regions["Europe"]
    assert ("America/Argentina/Ushuaia", "Argentina, Ushuaia") in regions["America"]


def test_a_new_password_ends_other_sessions_and_is_recorded() -> None:
    vera = make_person("vera", "viewer")
    client, elsewhere = log_in(vera), log_in(vera)
    assert client.post(reverse("password-change"), CHANGE).status_code == 302
    assert client.get(reverse("home")).status_code == 200
    assert elsewhere.get(reverse("home")).status_code == 302
    entry = Entry.objects.get(verb="person.password_changed")
    assert NEW not in f"{entry.old}{entry.new}{entry.reason}"


def test_the_old_password_is_required() -> None:
    client = log_in(make_person("vera", "viewer"))
    assert client.post(reverse("password-change"), {**CHANGE, "old_password": "wrong"}).status_code == 200
    assert not Entry.objects.filter(verb="person.password_changed").exists()


def test_an_initial_password_must_be_changed_first() -> None:
    client = log_in(make_person("anna", "administrator", must_change_password=True))
    for name in ("home", "audit-list", "settings", "admin:index"):
        assert client.get(reverse(name))["Location"] == reverse("password-change")
    assert client.get(reverse("password-change")).status_code == 200
    client.post(reverse("password-change"), CHANGE)
    assert client.get(reverse("home")).status_code == 200


def test_users_with_an_initial_password_can_log_out() -> None:
    client = log_in(make_person("anna", "administrator", must_change_password=True))
    assert client.post(reverse("logout"))["Location"] == reverse("login")


def test_a_removed_time_zone_does_not_break_pages() -> None:
    make_person("vera", "viewer")
    User.objects.update(time_zone="Europe/Atlantis")
    assert log_in(User.objects.get()).get(reverse("help")).status_code == 200
