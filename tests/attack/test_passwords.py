"""Passwords are not tried fast, wherever one is asked for."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta

import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse

from as2certs.accounts.models import Installation, User
from as2certs.accounts.throttling import (
    ADDRESS_PAUSE,
    ADDRESS_SLOWED_MESSAGE,
    MAX_FAILURES,
    MAX_FAILURES_BEFORE_SLOW,
    MAX_FAILURES_PER_ADDRESS,
    MAX_KNOWN_FAILURES,
    PASSWORD_PERIOD,
    THROTTLED_REASON,
    is_address_slowed,
    is_password_throttled,
)
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.clock import database_now
from tests.inventory import add_certificate, make_identity
from tests.people import PASSWORD, confirm, log_in, make_person

pytestmark = pytest.mark.django_db

ELSEWHERE = "198.51.100.9"


@pytest.fixture
def vera() -> User:
    return make_person("vera", "viewer")


def try_to_log_in(password: str, address: str = "127.0.0.1") -> int:
    given = {"username": "vera", "password": password}
    return Client().post(reverse("login"), given, REMOTE_ADDR=address).status_code


def guess(times: int, address: str = "127.0.0.1") -> None:
    for _ in range(times):
        assert try_to_log_in("wrong", address) == 200


def test_after_ten_wrong_passwords_the_right_one_is_not_looked_at(vera: User) -> None:
    guess(MAX_FAILURES_PER_ADDRESS)
    assert try_to_log_in(PASSWORD) == 200
    assert Entry.objects.filter(verb="person.logged_in").count() == 0
    assert Entry.objects.filter(verb="person.login_failed", reason=THROTTLED_REASON).count() == 1


def test_nine_wrong_passwords_do_not_stop_the_tenth_that_is_right(vera: User) -> None:
    guess(MAX_FAILURES_PER_ADDRESS - 1)
    assert try_to_log_in(PASSWORD) == 302


def test_the_admin_has_no_door_of_its_own(vera: User) -> None:
    User.objects.filter(pk=vera.pk).update(is_staff=True)
    client = Client()
    answer = client.post(reverse("admin:login"), {"username": "vera", "password": PASSWORD})
    assert answer["Location"].startswith(reverse("login"))
    assert client.get(reverse("admin:index")).status_code == 302


def test_guessing_from_one_address_does_not_lock_people_out_at_another(vera: User) -> None:
    guess(MAX_FAILURES_PER_ADDRESS, ELSEWHERE)
    assert try_to_log_in(PASSWORD, ELSEWHERE) == 200
    assert try_to_log_in(PASSWORD) == 302


def test_guessing_from_many_addresses_ends_too_and_the_rest_is_not_prolonged_by_more(vera: User) -> None:
    now = database_now()
    for number in range(MAX_FAILURES):
        somebody = Actor("somebody", "web", address=f"198.51.100.{number}")
        record(AuditEvent("person.login_failed", vera), by=somebody, now=now)
    assert is_password_throttled(vera, address="127.0.0.1", now=now)
    assert try_to_log_in(PASSWORD) == 200
    assert not is_password_throttled(vera, address="127.0.0.1", now=now + PASSWORD_PERIOD + timedelta(seconds=1))


def spray(count: int, *, address: str = ELSEWHERE, now: datetime) -> None:
    """Record wrong passwords from one address, for an account that is none of the tests' people."""
    somebody = Actor("somebody", "web", address=address)
    for _ in range(count):
        record(AuditEvent("person.login_failed", Installation.current()), by=somebody, now=now)


def test_one_address_that_tries_many_accounts_is_slowed_and_told_so(vera: User) -> None:
    spray(MAX_FAILURES_BEFORE_SLOW - 1, now=database_now())
    given = {"username": "vera", "password": "wrong"}
    said = Client().post(reverse("login"), given, REMOTE_ADDR=ELSEWHERE).content.decode()
    assert "don’t belong together" in said  # it was looked at
    for name in ("vera", "nobody of this name"):
        given = {"username": name, "password": PASSWORD}
        said = Client().post(reverse("login"), given, REMOTE_ADDR=ELSEWHERE).content.decode()
        assert ADDRESS_SLOWED_MESSAGE in said
    assert Entry.objects.filter(reason=THROTTLED_REASON).count() == 2
    assert try_to_log_in(PASSWORD) == 302  # from another address


def test_a_slowed_address_waits_for_ten_seconds_and_no_longer(vera: User) -> None:
    now = database_now()
    spray(MAX_FAILURES_BEFORE_SLOW, now=now)
    assert is_address_slowed(vera, address=ELSEWHERE, now=now + ADDRESS_PAUSE - timedelta(milliseconds=1))
    assert not is_address_slowed(vera, address=ELSEWHERE, now=now + ADDRESS_PAUSE)
    spray(1, now=now + PASSWORD_PERIOD)
    assert not is_address_slowed(vera, address=ELSEWHERE, now=now + PASSWORD_PERIOD)  # the others are long ago


def test_an_ipv6_network_counts_as_one_address(vera: User) -> None:
    now = database_now()
    for number in range(MAX_FAILURES_BEFORE_SLOW):
        spray(1, address=f"2001:db8:0:7::{number:x}", now=now)
    assert is_address_slowed(vera, address="2001:db8:0:7:ffff::1", now=now)
    assert not is_address_slowed(vera, address="2001:db8:0:8::1", now=now)


def test_whoever_logged_in_from_a_slowed_address_before_does_not_wait_but_for_few_wrong_passwords(vera: User) -> None:
    now = database_now()
    by = Actor("Vera", "web", user=vera, address=ELSEWHERE)
    record(AuditEvent("person.logged_in", vera), by=by, now=now - timedelta(days=7))
    spray(MAX_FAILURES_BEFORE_SLOW, now=now)
    assert try_to_log_in(PASSWORD, ELSEWHERE) == 302
    for _ in range(MAX_KNOWN_FAILURES):
        record(AuditEvent("person.login_failed", vera), by=by, now=now)
    assert is_address_slowed(vera, address=ELSEWHERE, now=now)
    assert not is_address_slowed(vera, address="127.0.0.1", now=now)


def test_an_address_that_a_stranger_claims_is_not_counted(vera: User, settings: LazySettings) -> None:
    spray(MAX_FAILURES_BEFORE_SLOW, now=database_now())
    given = {"username": "vera", "password": PASSWORD}
    for proxies, status in (([], 302), ([ipaddress.ip_network("127.0.0.1")], 200)):
        settings.AS2CERTS_PROXIES = proxies
        assert Client().post(reverse("login"), given, headers={"x-forwarded-for": ELSEWHERE}).status_code == status


def test_a_private_key_does_not_leave_to_somebody_who_guesses(vera: User) -> None:
    anna = make_person("anna", "administrator")
    certificate = add_certificate(make_identity())
    address = reverse("certificate-export-private", args=[certificate.uid])
    given = {
        "reason": "a new server",
        "form": "pkcs12",
        "password": "protects the file",
        "password_again": "protects the file",
    }
    client = log_in(anna)
    asks = client.get(address)["Location"]
    for _ in range(MAX_FAILURES_PER_ADDRESS):
        assert "This is not your password." in client.post(asks, {"password": "wrong"}).content.decode()
    assert "Too many wrong passwords" in client.post(asks, {"password": PASSWORD}).content.decode()
    assert client.post(address, given)["Location"] == asks
    refused = Entry.objects.filter(verb="person.confirmation_refused", actor=anna)
    assert refused.count() == MAX_FAILURES_PER_ADDRESS
    assert not Entry.objects.filter(verb__in=["key.exported", "key.opened"]).exists()


def test_an_export_is_kept_by_nobody_on_the_way() -> None:
    anna = make_person("anna", "administrator")
    certificate = add_certificate(make_identity())
    address = reverse("certificate-export-private", args=[certificate.uid])
    given = {
        "reason": "a new server",
        "form": "pem",
        "password": "protects the file",
        "password_again": "protects the file",
    }
    answer = confirm(log_in(anna)).post(address, given)
    assert answer["Cache-Control"].startswith("no-store")
    assert b"ENCRYPTED PRIVATE KEY" in answer.content


def test_whoever_sits_at_an_open_browser_can_not_guess_the_password_to_change_it(vera: User) -> None:
    client = log_in(vera)
    given = {"new_password1": "another long one", "new_password2": "another long one"}
    for _ in range(MAX_FAILURES_PER_ADDRESS):
        client.post(reverse("password-change"), given | {"old_password": "wrong"})
    answer = client.post(reverse("password-change"), given | {"old_password": PASSWORD})
    assert "Too many wrong passwords" in answer.content.decode()
    assert Entry.objects.filter(verb="person.password_refused").count() == MAX_FAILURES_PER_ADDRESS
    vera.refresh_from_db()
    assert vera.check_password(PASSWORD)
