from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from as2certs.audit.models import Entry
from tests.people import PASSWORD, log_in, make_person

pytestmark = pytest.mark.django_db

LOGIN = {"username": "vera", "password": PASSWORD}


def last_entry() -> Entry:
    entry = Entry.objects.first()
    assert entry is not None
    return entry


def test_a_login_is_recorded_with_its_address() -> None:
    vera = make_person("vera", "viewer")
    answer = Client(REMOTE_ADDR="192.0.2.7").post(reverse("login"), LOGIN)
    assert answer["Location"] == reverse("home")
    entry = last_entry()
    assert (entry.verb, entry.actor, entry.address) == ("person.logged_in", vera, "192.0.2.7")


def test_a_wrong_password_is_refused_and_recorded() -> None:
    make_person("vera", "viewer")
    answer = Client().post(reverse("login"), {**LOGIN, "password": "wrong"})
    assert "don’t belong together" in answer.content.decode()
    entry = last_entry()
    assert (entry.verb, entry.object_name) == ("person.login_failed", "vera")
    assert "wrong" not in str(entry.new) + entry.reason


def test_an_unknown_user_name_is_not_recorded() -> None:
    Client().post(reverse("login"), {"username": "my secret password", "password": "x"})
    entry = last_entry()
    assert entry.verb == "person.login_failed"
    assert "my secret password" not in f"{entry.object_name} {entry.reason} {entry.new} {entry.actor_name}"


def test_a_closed_account_is_refused() -> None:
    make_person("vera", "viewer", is_active=False)
    Client().post(reverse("login"), LOGIN)
    assert last_entry().verb == "person.login_failed"


def test_logging_out_requires_post_and_is_recorded() -> None:
    client = log_in(make_person("vera", "viewer"))
    assert client.get(reverse("logout")).status_code == 405
    assert client.post(reverse("logout"))["Location"] == reverse("login")
    assert last_entry().verb == "person.logged_out"
    assert client.get(reverse("home")).status_code == 302


def test_the_login_redirects_to_next_but_never_to_other_sites() -> None:
    make_person("vera", "viewer")
    wanted = reverse("audit-list")
    assert Client().post(f"{reverse('login')}?next={wanted}", LOGIN)["Location"] == wanted
    away = f"{reverse('login')}?next=https://example.com/"
    assert Client().post(away, LOGIN)["Location"] == reverse("home")


def test_the_bar_shows_what_a_person_may_see() -> None:
    nobody = log_in(make_person("nobody")).get(reverse("help")).content.decode()
    viewer = log_in(make_person("vera", "viewer")).get(reverse("help")).content.decode()
    administrator = log_in(make_person("anna", "administrator")).get(reverse("help")).content.decode()
    assert reverse("identity-list") not in nobody
    assert reverse("identity-list") in viewer
    assert reverse("settings") not in viewer
    assert reverse("settings") in administrator


def test_the_page_of_the_login_shows_no_bar() -> None:
    assert reverse("search") not in Client().get(reverse("login")).content.decode()
