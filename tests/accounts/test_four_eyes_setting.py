"""Four eyes are not switched off by one administrator alone, and not unnoticed."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse

from as2certs.accounts.models import Installation, User
from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from tests.accounts.test_settings import wishes
from tests.people import PASSWORD, confirm, log_in, make_person

pytestmark = pytest.mark.django_db


@pytest.fixture
def anna() -> User:
    Installation(four_eyes_production=True).save()
    make_person("bob", "approver")
    make_person("olaf", "operator")
    return make_person("anna", "administrator")


def holds() -> bool:
    return Installation.current().asks_for_four_eyes(is_test=False)


def switch_off(client: Client) -> str:
    """Save the settings without the tick, and return where that leads."""
    return str(client.post(reverse("settings"), wishes())["Location"])


def notified() -> list[str]:
    return sorted(Message.objects.filter(kind="four_eyes").values_list("to_address", flat=True))


def test_switching_off_asks_who_it_is_and_changes_nothing_before(anna: User) -> None:
    assert switch_off(log_in(anna)).startswith(reverse("account_reauthenticate"))
    assert (holds(), Installation.current().name, notified()) == (True, "Our company", [])


def test_the_only_administrator_can_and_all_who_approve_or_administer_are_told(anna: User) -> None:
    assert switch_off(confirm(log_in(anna))) == reverse("settings")
    assert not holds()
    assert notified() == ["anna@example.com", "bob@example.com"]
    assert Message.objects.filter(kind="four_eyes").first().subject == "anna switched four eyes off in production"  # type: ignore[union-attr]
    assert Entry.objects.get(verb="installation.four_eyes_off").actor == anna


def test_with_a_second_administrator_the_other_one_has_to_agree(anna: User) -> None:
    boss = make_person("boss", "administrator")
    make_person("gone", "administrator", is_active=False)
    client = confirm(log_in(anna))
    assert switch_off(client) == reverse("settings")
    now = Installation.current()
    assert (now.name, now.four_eyes_production, now.four_eyes_off_asked) == ("Meridian Foods", True, ["production"])
    assert notified() == ["anna@example.com", "bob@example.com", "boss@example.com"]
    assert reverse("four-eyes-agree") not in client.get(reverse("settings")).content.decode()
    client.post(reverse("four-eyes-agree"))
    assert holds()
    other = log_in(boss)
    assert reverse("four-eyes-agree") in other.get(reverse("settings")).content.decode()
    assert other.post(reverse("four-eyes-agree"))["Location"].startswith(reverse("account_reauthenticate"))
    assert holds()
    confirm(other).post(reverse("four-eyes-agree"))
    assert not holds()
    assert len(notified()) == 6
    assert Entry.objects.get(verb="installation.four_eyes_off").actor == boss
    other.post(reverse("four-eyes-agree"))  # once more
    assert Entry.objects.filter(verb="installation.four_eyes_off").count() == 1


def test_anybody_of_them_can_keep_them(anna: User) -> None:
    make_person("boss", "administrator")
    client = confirm(log_in(anna))
    switch_off(client)
    client.post(reverse("four-eyes-keep"))
    assert holds()
    assert Installation.current().four_eyes_off_asked == []
    assert Entry.objects.filter(verb="installation.four_eyes_kept").count() == 1


def test_django_admin_does_not_switch_them(anna: User) -> None:
    anna.is_staff = True
    anna.save()
    client = confirm(log_in(anna))
    address = reverse("admin:accounts_installation_change", args=[1])
    assert client.post(address, wishes()).status_code == 302
    now = Installation.current()
    assert (now.name, now.four_eyes_production) == ("Meridian Foods", True)


def test_those_who_approve_are_told_of_somebody_who_may_from_now_on(anna: User) -> None:
    anna.is_staff = True
    anna.save()
    client = confirm(log_in(anna))
    password = {"password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    role = Group.objects.get(name="approver")
    account = {"username": "anna2", "email": "anna2@example.com", "groups": [role.pk], **password}
    assert client.post(reverse("admin:accounts_user_add"), account).status_code == 302
    told = Message.objects.filter(kind="four_eyes", subject="anna let anna2 approve rotations")
    assert sorted(told.values_list("to_address", flat=True)) == [
        "anna2@example.com",
        "anna@example.com",
        "bob@example.com",
    ]
    account |= {"username": "vera", "email": "vera@example.com", "groups": [Group.objects.get(name="viewer").pk]}
    assert client.post(reverse("admin:accounts_user_add"), account).status_code == 302
    assert Message.objects.filter(kind="four_eyes").count() == 3
