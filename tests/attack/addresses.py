"""Every address of the application and of Django admin, filled in with one object of each kind."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import get_resolver, reverse

from as2certs.accounts.models import User
from tests.people import confirm, log_in
from tests.test_rights import World, patterns


def of_application(world: World) -> dict[str, str]:
    """Return the addresses of all pages and actions by their names."""
    found = {}
    for pattern in patterns(get_resolver()):
        assert pattern.name
        if pattern.name == "rotation-steps-done":
            uid = world.objects["rotation"].uid
            found[pattern.name] = reverse(pattern.name, kwargs={"uid": uid, "act": "notify"})
        else:
            found[pattern.name] = world.address(pattern.name)
    return found


def of_admin() -> dict[str, str]:
    """Return the addresses of Django admin: each model's pages, with its first row where there is one."""
    found = {name: reverse(f"admin:{name}") for name in ("index", "password_change", "jsi18n")}
    found["autocomplete"] = reverse("admin:autocomplete")
    for model in admin.site._registry:
        base = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        found[f"{base}_changelist"] = reverse(f"{base}_changelist")
        found[f"{base}_add"] = reverse(f"{base}_add")
        row = model._default_manager.first()
        if row is not None:
            for page in ("change", "delete", "history"):
                found[f"{base}_{page}"] = reverse(f"{base}_{page}", args=[row.pk])
    return found


def everywhere(world: World) -> dict[str, str]:
    return of_application(world) | of_admin()


def root_client(*, checks_csrf: bool = False) -> Client:
    """Return the browser of somebody who may do everything, and who just confirmed that it is them."""
    user = User.objects.filter(username="root").first()
    if user is None:
        user = User.objects.create_superuser("root", "root@example.com", "a long password")
        user.groups.add(Group.objects.get(name="administrator"))
    client = Client(enforce_csrf_checks=checks_csrf)
    client.cookies = confirm(log_in(user)).cookies
    return client
