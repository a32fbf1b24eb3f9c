"""The permissions of each role."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission

VIEW_PERMISSIONS = (
    "identities.view_as2system",
    "identities.view_identity",
    "identities.view_identitycertificate",
    "identities.view_certificaterequest",
    "partners.view_partner",
    "partners.view_contact",
    "partners.view_partnership",
    "partners.view_partnercertificate",
    "rotations.view_rotation",
    "rotations.view_freeze",
    "audit.view_entry",
)
OPERATE_PERMISSIONS = (
    "identities.add_as2system",
    "identities.change_as2system",
    "identities.add_identity",
    "identities.change_identity",
    "identities.add_identitycertificate",
    "identities.add_certificaterequest",
    "identities.change_certificaterequest",
    "partners.add_partner",
    "partners.change_partner",
    "partners.add_contact",
    "partners.change_contact",
    "partners.delete_contact",
    "partners.add_partnership",
    "partners.change_partnership",
    "partners.add_partnercertificate",
    "rotations.add_rotation",
    "rotations.change_rotation",
    "rotations.add_freeze",
    "rotations.change_freeze",
    "rotations.delete_freeze",
    "mail.view_message",
    "mail.change_message",
)
APPROVE_PERMISSIONS = ("rotations.approve_rotation",)
ADMINISTER_PERMISSIONS = (
    "audit.export_entry",
    "identities.export_privatekey",
    "identities.view_privatekey",
    "identities.view_identityservice",
    "partners.view_partnerservice",
    "partners.view_signingchoice",
    "accounts.view_user",
    "accounts.add_user",
    "accounts.change_user",
    "accounts.view_installation",
    "accounts.change_installation",
    "auth.view_group",
)

#: Role → its permissions. Each role is a group; administrators are no superusers.
ROLE_PERMISSIONS: dict[str, tuple[str, ...]] = {
    "viewer": VIEW_PERMISSIONS,
    "operator": VIEW_PERMISSIONS + OPERATE_PERMISSIONS,
    "approver": VIEW_PERMISSIONS + APPROVE_PERMISSIONS,
    "administrator": VIEW_PERMISSIONS + OPERATE_PERMISSIONS + APPROVE_PERMISSIONS + ADMINISTER_PERMISSIONS,
}


def grant_role_permissions() -> None:
    """Create the groups, and give each one exactly its permissions."""
    by_name = {f"{p.content_type.app_label}.{p.codename}": p for p in Permission.objects.select_related("content_type")}
    for name, permissions in ROLE_PERMISSIONS.items():
        group, _ = Group.objects.get_or_create(name=name)
        group.permissions.set([by_name[permission] for permission in permissions])


def grant_after_migrate(sender: AppConfig, using: str, **kwargs: Any) -> None:
    """Grant after ``migrate``, once the permissions of all apps exist."""
    if sender.name != "rotations":
        return
    for config in apps.get_app_configs():
        create_permissions(config, verbosity=0, using=using, apps=apps)
    grant_role_permissions()
