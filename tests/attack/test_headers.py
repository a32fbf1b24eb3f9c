"""What goes with each answer: policies, cookies, and where a log-in may lead."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from as2certs.content_security_policy import POLICY
from as2certs.mail.models import Message
from tests.attack.addresses import root_client
from tests.inventory import NOW
from tests.people import PASSWORD, log_in, make_person

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("name", ["login", "home", "settings", "healthz", "admin:index", "nothing"])
def test_each_answer_says_what_a_page_may_do(name: str) -> None:
    answer = root_client().get("/nothing/" if name == "nothing" else reverse(name), follow=True)
    assert answer["Content-Security-Policy"] == POLICY
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"


def test_a_mails_html_has_a_stricter_policy_of_its_own_and_fits_into_its_frame() -> None:
    message = Message.objects.create(
        key="k",
        kind="test",
        to_address="a@example.com",
        subject="s",
        text="t",
        html="<head></head><script>alert(1)</script>",
        message_id="<m@x>",
        created_at=NOW,
        due_at=NOW,
    )
    answer = root_client().get(reverse("mail-html", args=[message.uid]))
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert "sandbox" in answer["Content-Security-Policy"]
    assert "allow-scripts" not in answer["Content-Security-Policy"]
    assert answer["X-Frame-Options"] == "SAMEORIGIN"


def test_cookies_are_out_of_the_reach_of_scripts_and_other_sites() -> None:
    make_person("vera", "viewer")
    client = Client()
    client.get(reverse("login"))
    client.post(reverse("login"), {"username": "vera", "password": PASSWORD})
    for name in ("sessionid", "csrftoken"):
        assert client.cookies[name]["httponly"], name
        assert client.cookies[name]["samesite"] == "Lax", name


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "javascript:alert(1)",
        "http:evil",
        "\x00//evil",
    ],
)
def test_logging_in_and_out_leads_to_no_other_site(target: str) -> None:
    make_person("vera", "viewer")
    client = Client()
    for address in (reverse("login"), f"{reverse('login')}?next={target}"):
        answer = client.post(address, {"username": "vera", "password": PASSWORD, "next": target})
        assert answer["Location"] == reverse("home")
        answer = client.post(f"{reverse('logout')}?next={target}", {"next": target})
        assert answer["Location"] == reverse("login")


def test_looking_at_the_address_logs_nobody_out() -> None:
    client = log_in(make_person("vera", "viewer"))
    assert client.get(reverse("logout")).status_code == 405
    assert client.get(reverse("home")).status_code == 200


def test_an_address_of_another_host_is_not_believed() -> None:
    for host in ("evil.example", "localhost.evil.example", "localhost:80@evil.example", "evil.example:80"):
        assert Client().get(reverse("login"), headers={"host": host}).status_code == 400, host
    answer = Client().get(reverse("login"), headers={"x-forwarded-host": "evil.example"})
    assert "evil.example" not in answer.content.decode()
