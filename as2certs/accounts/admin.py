"""Django admin of users and the installation: nobody can grant more rights than they have."""

from __future__ import annotations

from typing import Any, ClassVar

from allauth.account.decorators import secure_admin_login
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from as2certs.accounts import four_eyes_setting, reauthentication, second_factors
from as2certs.accounts.forms import InstallationForm
from as2certs.accounts.models import Installation, User
from as2certs.audit.admin import AuditedAdmin, ReadOnlyAdmin
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.forms import OneLineFieldsMixin

#: Groups get exactly the permissions of permissions.py after each migration: here they are read-only.
admin.site.unregister(Group)
#: Second factors belong to their owners; providers are configured in the settings, and linked by a command.
admin.site.unregister([Authenticator, EmailAddress, SocialAccount, SocialApp, SocialToken])
#: The admin's own login would ask for the password only, and not for the second factor.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]


@admin.register(Group)
class RoleAdmin(ReadOnlyAdmin):
    list_display = ("name",)
    search_fields = ("name",)
    filter_horizontal = ("permissions",)


class PersonForm(OneLineFieldsMixin, UserChangeForm[User]):
    """A user, in Django admin."""


class NewPersonForm(OneLineFieldsMixin, AdminUserCreationForm[User]):
    """A new user, in Django admin."""


@admin.register(User)
class PersonAdmin(AuditedAdmin, UserAdmin[User]):
    """Users: created and deactivated here, and never deleted, because the trail refers to them.

    Rights come from groups alone. Only superusers can create or change superusers.
    """

    #: The trail records that a password was changed, but no hash of it.
    SECRET: ClassVar[tuple[str, ...]] = ("password", "password1", "password2", "usable_password")

    form = PersonForm
    add_form = NewPersonForm
    fieldsets = (
        (None, {"fields": ("username", "password", "must_change_password")}),
        ("Who it is", {"fields": ("first_name", "last_name", "email", "time_zone", "wants_reminders")}),
        ("What they may do", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        ("When", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = (
        (
            None,
            {
                "classes": ("wide",),
                "fields": ("username", "email", "password1", "password2", "must_change_password", "groups"),
            },
        ),
    )
    list_display = ("username", "first_name", "last_name", "email", "is_active", "is_staff", "last_login")
    list_filter = ("groups", "is_active", "is_staff", "is_superuser")
    filter_horizontal = ("groups",)
    actions = ("take_second_factors_away",)

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Require reauthentication when the form is opened and when it is sent, since it can grant rights."""
        if object_id:
            may = self.has_change_permission(request, self.get_object(request, object_id))
        else:
            may = self.has_add_permission(request)
        if may and not reauthentication.is_recently_confirmed(request):
            return reauthentication.redirect_to_confirmation(request, then=request.get_full_path())
        return super().changeform_view(request, object_id, *args, **kwargs)

    @admin.action(description="Take the second factor of these people away", permissions=["change"])
    def take_second_factors_away(self, request: HttpRequest, people: QuerySet[User]) -> HttpResponse | None:
        """Remove second factors that were lost: their owners log in with the password alone, and add another one."""
        if not reauthentication.is_recently_confirmed(request):
            return reauthentication.redirect_to_confirmation(request, then=request.get_full_path())
        by = Actor.of(request, source=Entry.Source.ADMIN)
        for person in people:
            if not self.has_change_permission(request, person):
                messages.error(request, f"{person} may do more than you: you can’t take their second factor away.")
            elif second_factors.remove_all(person, by=by, now=database_now()):
                messages.success(request, f"{person} has no second factor any more.")
            else:
                messages.warning(request, f"{person} has no second factor.")
        return None

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        fixed = ("last_login", "date_joined")
        return fixed if request.user.is_superuser else (*fixed, "is_superuser")

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"must_change_password": True, **super().get_changeform_initial_data(request)}

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse to change users with more rights: setting their password would give these rights."""
        if obj is not None and not request.user.is_superuser:
            mine = request.user.get_all_permissions()
            if obj.is_superuser or any(not _group_permissions(group) <= mine for group in obj.groups.all()):
                return False
        return super().has_change_permission(request, obj)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Offer the groups whose permissions the user has."""
        if db_field.name == "groups" and not request.user.is_superuser:
            mine = request.user.get_all_permissions()
            kwargs["queryset"] = Group.objects.filter(
                pk__in=[group.pk for group in Group.objects.all() if _group_permissions(group) <= mine]
            )
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        form.rights_before = four_eyes_setting.deciding_rights(obj.pk)
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Save the groups too, and notify those who approve if somebody may decide more or less than before."""
        super().save_related(request, form, formsets, change)
        by = Actor.of(request, source=Entry.Source.ADMIN)
        four_eyes_setting.notify_of_rights(form.instance, before=form.rights_before, by=by, now=database_now())

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        """Set a password; its owner has to choose another one at the next login."""
        may = self.has_change_permission(request, self.get_object(request, id))
        if may and not reauthentication.is_recently_confirmed(request):
            return reauthentication.redirect_to_confirmation(request, then=request.get_full_path())
        with transaction.atomic():
            response = super().user_change_password(request, id, form_url)
            person = self.get_object(request, id)
            if request.method == "POST" and response.status_code == 302 and person is not None:
                if person.pk != request.user.pk:
                    User.objects.filter(pk=person.pk).update(must_change_password=True)
                self.record(request, person, "password_set")
        return response


def _group_permissions(group: Group) -> set[str]:
    return {f"{app}.{name}" for app, name in group.permissions.values_list("content_type__app_label", "codename")}


@admin.register(Installation)
class InstallationAdmin(AuditedAdmin):
    """The settings: one row, created when they are first saved. Four eyes are set on the application's own page."""

    form = InstallationForm
    readonly_fields = ("four_eyes_production", "four_eyes_test")
    list_display = ("name", "time_zone", "four_eyes_production", "four_eyes_test", "escalation_email")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return list(InstallationForm.Meta.fields)
