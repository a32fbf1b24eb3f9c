from __future__ import annotations

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path, reverse

from as2certs.urls import urlpatterns as pages
from tests.people import log_in, make_person

pytestmark = pytest.mark.django_db


def breaks(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError("a secret of the code")


urlpatterns = [*pages, path("breaks/", breaks)]


def test_an_unknown_url_gets_a_page_with_a_link_home() -> None:
    answer = log_in(make_person("vera", "viewer")).get("/nothing/here/")
    assert answer.status_code == 404
    assert "There is nothing at this address" in answer.content.decode()


def test_anonymous_users_get_the_same_page_without_the_bar() -> None:
    text = Client().get("/nothing/here/").content.decode()
    assert "There is nothing at this address" in text
    assert reverse("search") not in text


def test_a_missing_permission_names_the_user() -> None:
    answer = log_in(make_person("vera", "viewer")).get(reverse("settings"))
    assert answer.status_code == 403
    assert "<b>vera</b>" in answer.content.decode()


def test_an_old_form_says_what_to_do() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_person("vera", "viewer"))
    answer = client.post(reverse("account"), {})
    assert answer.status_code == 403
    assert "This form is too old" in answer.content.decode()


@override_settings(ROOT_URLCONF="tests.site.test_error_pages")
def test_an_exception_shows_nothing_of_the_code() -> None:
    answer = Client(raise_request_exception=False).get("/breaks/")
    assert answer.status_code == 500
    assert "The fault is ours" in answer.content.decode()
    assert "secret" not in answer.content.decode()


def test_an_unknown_host_gets_a_page_in_plain_words() -> None:
    answer = Client().get(reverse("login"), HTTP_HOST="evil.example")
    assert answer.status_code == 400
    assert "This request can’t be read" in answer.content.decode()


def test_pages_load_nothing_from_elsewhere_and_hold_no_script_or_style_of_their_own() -> None:
    client = log_in(make_person("anna", "administrator"))
    for name in (
        "home",
        "help",
        "calendar",
        "audit-list",
        "account",
        "settings",
        "search",
        "password-change",
    ):
        text = client.get(reverse(name)).content.decode()
        assert "<style" not in text, name
        assert " style=" not in text, name
        assert " onclick=" not in text, name
        assert text.count("<script") == text.count('<script src="/static/'), name
        assert 'src="http' not in text, name
        assert 'rel="stylesheet" href="http' not in text, name
