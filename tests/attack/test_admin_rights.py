"""Django admin is no way around anything: rights, passwords, sealed keys, history."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.admin.sites import site
from django.contrib.auth.models import Group, Permission
from django.urls import reverse

from as2certs.accounts.models import User
from as2certs.audit.models import Entry
from identities.models import PrivateKey
from tests.attack.addresses import root_client
from tests.inventory import add_certificate, make_identity
from tests.people import PASSWORD, confirm, log_in, make_person

pytestmark = pytest.mark.django_db

NEW = "a quite new password"


@pytest.fixture
def anna() -> User:
    return make_person("anna", "administrator", is_staff=True)


def change(user: User) -> str:
    return reverse("admin:accounts_user_change", args=[user.pk])


def form_of(user: User, **values: object) -> dict[str, object]:
    given = {
        "username": user.username,
        "email": user.email,
        "time_zone": "UTC",
        "is_active": "on",
        "groups": [group.pk for group in user.groups.all()],
    }
    return given | values


def test_an_administrator_can_not_make_herself_a_superuser(anna: User) -> None:
    client = confirm(log_in(anna))
    answer = client.post(change(anna), form_of(anna, is_staff="on", is_superuser="on"))
    assert answer.status_code == 302
    anna.refresh_from_db()
    assert not anna.is_superuser
    assert anna.is_staff


def test_a_right_is_given_only_by_somebody_who_just_confirmed_that_it_is_them(anna: User) -> None:
    vera = make_person("vera", "viewer")
    client = log_in(anna)
    more = form_of(vera, groups=[Group.objects.get(name="administrator").pk], is_staff="on")
    passwords = reverse("admin:auth_user_password_change", args=[vera.pk])
    for address, given in (
        (change(vera), more),
        (
            reverse("admin:accounts_user_add"),
            more | {"username": "carol", "password1": NEW, "password2": NEW},
        ),
        (passwords, {"password1": NEW, "password2": NEW, "usable_password": "true"}),
    ):
        for answer in (client.get(address), client.post(address, given)):
            assert answer["Location"] == f"{reverse('account_reauthenticate')}?{urlencode({'next': address})}"
    vera.refresh_from_db()
    assert not vera.is_staff
    assert vera.check_password(PASSWORD)
    assert User.objects.count() == 2
    back = client.post(f"{reverse('account_reauthenticate')}?next={change(vera)}", {"password": PASSWORD})
    assert back["Location"] == change(vera)
    assert client.post(change(vera), more).status_code == 302
    vera.refresh_from_db()
    assert vera.is_staff


def test_an_administrator_takes_a_lost_second_factor_away_but_not_that_of_somebody_mightier(
    anna: User,
) -> None:
    vera, root = make_person("vera", "viewer"), User.objects.create_superuser("root", "", PASSWORD)
    for person in (vera, root):
        Authenticator.objects.create(user=person, type="totp", data={"secret": "sealed"})
    client = log_in(anna)
    chosen = {"action": "take_second_factors_away", "_selected_action": [vera.pk, root.pk]}
    people = reverse("admin:accounts_user_changelist")
    assert client.post(people, chosen)["Location"].startswith(reverse("account_reauthenticate"))
    assert Authenticator.objects.count() == 2
    page = confirm(client).post(people, chosen, follow=True).content.decode()
    assert "Vera has no second factor any more" in page
    assert "Root may do more than you" in page
    assert Authenticator.objects.get().user == root
    entry = Entry.objects.get(verb="person.second_factor_reset")
    assert (entry.actor, entry.source, entry.object_name) == (anna, "admin", "vera")


def test_nobody_gives_rights_that_they_do_not_have(anna: User) -> None:
    mighty = Group.objects.create(name="mighty")
    mighty.permissions.add(Permission.objects.get(codename="delete_user"))
    vera = make_person("vera", "viewer")
    client = confirm(log_in(anna))
    answer = client.post(change(vera), form_of(vera, groups=[mighty.pk]))
    assert answer.status_code == 200
    assert not vera.groups.filter(name="mighty").exists()
    client.post(change(vera), form_of(vera, user_permissions=[1], groups=[]))
    assert not vera.user_permissions.exists()


def test_an_administrator_can_not_touch_a_superuser_not_even_a_closed_one(anna: User) -> None:
    root = User.objects.create_superuser("root", "root@example.com", PASSWORD)
    for active in (True, False):
        User.objects.filter(pk=root.pk).update(is_active=active)
        client = confirm(log_in(anna))
        assert client.post(change(root), form_of(root, email="evil@example.com")).status_code == 403
        setting = reverse("admin:auth_user_password_change", args=[root.pk])
        assert client.post(setting, {"password1": NEW, "password2": NEW}).status_code == 403
    root.refresh_from_db()
    assert root.check_password(PASSWORD)
    assert root.email == "root@example.com"


def test_groups_are_granted_by_the_table_alone(anna: User) -> None:
    group = Group.objects.get(name="viewer")
    address = reverse("admin:auth_group_change", args=[group.pk])
    for client in (log_in(anna), root_client()):
        assert client.post(address, {"name": "evil"}).status_code == 403
    assert Group.objects.filter(name="viewer").exists()


def test_an_administrator_adds_a_colleague_and_the_trail_holds_no_password(anna: User) -> None:
    given = {
        "username": "carol",
        "email": "carol@example.com",
        "usable_password": "true",
        "password1": NEW,
        "password2": NEW,
        "must_change_password": "on",
        "groups": [Group.objects.get(name="operator").pk],
    }
    client = confirm(log_in(anna))
    answer = client.post(reverse("admin:accounts_user_add"), given)
    assert answer.status_code == 302, answer.context["errors"]
    carol = User.objects.get(username="carol")
    assert carol.check_password(NEW)
    assert carol.must_change_password
    created = Entry.objects.get(verb="user.created")
    assert created.new["groups"] == ["operator"]
    setting = reverse("admin:auth_user_password_change", args=[carol.pk])
    again = {"password1": NEW + "2", "password2": NEW + "2", "usable_password": "true"}
    assert client.post(setting, again).status_code == 302
    assert Entry.objects.filter(verb="user.password_set").count() == 1
    carol.refresh_from_db()
    for entry in Entry.objects.all():
        told = json.dumps([entry.old, entry.new, entry.reason])
        assert "password1" not in told
        assert NEW not in told
        assert carol.password not in told
        assert "md5$" not in told


@pytest.mark.parametrize("lookup", ["sealed__startswith=g", "sealed__gt=a", "identity__owners__password__gt=a"])
def test_sealed_keys_and_hashes_are_not_spelled_by_filters(anna: User, lookup: str) -> None:
    add_certificate(make_identity())
    address = reverse("admin:identities_privatekey_changelist")
    for client in (log_in(anna), root_client()):
        assert client.get(f"{address}?{lookup}").status_code == 400


def test_history_and_keys_are_not_deleted_by_anybody(anna: User) -> None:
    add_certificate(make_identity())
    kept = {model: model._default_manager.count() for model in site._registry}
    for client in (log_in(anna), root_client()):
        for model in site._registry:
            if model.__name__ == "Contact":
                continue  # people at partners can be forgotten
            row = model._default_manager.first()
            base = f"admin:{model._meta.app_label}_{model._meta.model_name}"
            if row is None:
                continue
            chosen = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
            client.post(reverse(f"{base}_changelist"), chosen)
            assert client.post(reverse(f"{base}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    assert PrivateKey.objects.count() == 1
    now = {model: model._default_manager.count() for model in site._registry}
    now[User], now[Entry] = kept[User], kept[Entry]  # root came in between, and logging in is told
    assert now == kept


def test_the_admin_is_shut_for_somebody_who_must_choose_a_password() -> None:
    new = make_person("new", "administrator", is_staff=True, must_change_password=True)
    assert log_in(new).get(reverse("admin:index"))["Location"] == reverse("password-change")
