"""Pages of the login, the user's account and the settings of the installation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from allauth.account.internal.flows.login import perform_password_login
from allauth.account.models import Login as BegunLogin
from django.contrib import messages
from django.contrib.auth import views as auth_views
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.views.decorators.http import require_http_methods, require_POST

from as2certs.accounts import four_eyes_setting, reauthentication, second_factors, sign_on
from as2certs.accounts.access import current_user, require_permissions
from as2certs.accounts.errors import SettingRefused
from as2certs.accounts.forms import AccountForm, InstallationForm, form_helper
from as2certs.accounts.models import Installation, User
from as2certs.accounts.throttling import (
    ADDRESS_SLOWED_MESSAGE,
    THROTTLED_MESSAGE,
    is_address_slowed,
    is_password_throttled,
)
from as2certs.audit.form_saving import save_form
from as2certs.audit.recording import Actor, AuditEvent, client_address, record
from as2certs.clock import database_now
from as2certs.forms import OneLineFieldsMixin


class LoginForm(OneLineFieldsMixin, AuthenticationForm):
    error_messages = {
        "invalid_login": "This user name and this password don’t belong together. Both are case-sensitive. "
        "After ten wrong passwords an account rests for ten minutes.",
        "inactive": "This account is closed. Ask an administrator to open it again.",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = "User name"
        self.helper = form_helper("username", "password")

    def clean(self) -> dict[str, Any]:
        """Check name and password; say so if the address has to wait, whether the account exists or not."""
        user = User.objects.filter(username=self.cleaned_data.get("username", "")).first()
        address = client_address(self.request) if self.request else None
        slowed = is_address_slowed(user, address=address, now=database_now())
        try:
            return super().clean()
        except ValidationError as error:
            if slowed and error.code == "invalid_login":
                raise ValidationError(ADDRESS_SLOWED_MESSAGE, code="slowed") from error
            raise


class Login(auth_views.LoginView):
    """Check user name and password; allauth continues with the second factor, if there is one."""

    form_class = LoginForm
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**kwargs) | {
            "sign_on_name": sign_on.provider_name() if sign_on.is_enabled() else ""
        }

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        user = form.get_user()
        login = BegunLogin(user=user, redirect_url=self.get_success_url())
        return perform_password_login(self.request, {"username": user.get_username()}, login)


class PasswordForm(OneLineFieldsMixin, PasswordChangeForm):
    def __init__(self, *args: Any, throttled: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.throttled = throttled
        self.helper = form_helper("old_password", "new_password1", "new_password2")

    def clean_old_password(self) -> str:
        """Check the current password, unless too many were wrong."""
        if self.throttled:
            raise ValidationError(THROTTLED_MESSAGE, code="resting")
        return super().clean_old_password()


class PasswordChange(auth_views.PasswordChangeView):
    form_class = PasswordForm
    template_name = "accounts/password_change.html"
    success_url = reverse_lazy("home")

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated and not request.user.has_usable_password():
            messages.info(request, "You have no password here: you log in by single sign-on.")
            return redirect("account")
        return super().dispatch(request, *args, **kwargs)

    def get_form_kwargs(self) -> dict[str, Any]:
        request = self.request
        throttled = is_password_throttled(current_user(request), address=client_address(request), now=database_now())
        return super().get_form_kwargs() | {"throttled": throttled}

    def form_invalid(self, form: Any) -> HttpResponse:
        """Record a wrong current password: it may not be its owner at the keyboard."""
        if form.has_error("old_password", code="password_incorrect"):
            with transaction.atomic():
                record(
                    AuditEvent("person.password_refused", form.user),
                    by=Actor.of(self.request),
                    now=database_now(),
                )
        return super().form_invalid(form)

    def form_valid(self, form: Any) -> HttpResponse:
        """Save the new password, and record that."""
        with transaction.atomic():
            form.user.must_change_password = False
            response = super().form_valid(form)
            record(
                AuditEvent("person.password_changed", form.user),
                by=Actor.of(self.request),
                now=database_now(),
            )
        messages.success(self.request, "Your password is changed. Other sessions of yours are logged out.")
        return response


@login_required
@require_http_methods(["GET", "POST"])
def account(request: HttpRequest) -> HttpResponse:
    """Show and change the user's own account."""
    me = User.objects.get(pk=current_user(request).pk)
    form = AccountForm(request.POST or None, instance=me)
    if request.method == "POST" and form.is_valid():
        save_form(form, by=Actor.of(request), now=database_now())
        messages.success(request, "Your account is saved.")
        return redirect("account")
    groups = me.groups.order_by("name").values_list("name", flat=True)
    context = {
        "form": form,
        "groups": " and ".join(groups),
        "has_second_factor": second_factors.has_second_factor(me),
    }
    context["sign_on_name"] = sign_on.provider_name() if sign_on.is_linked(me) else ""
    return render(request, "accounts/account.html", context)


@require_permissions("accounts.change_installation")
@require_http_methods(["GET", "POST"])
def settings(request: HttpRequest) -> HttpResponse:
    """Show and change the settings of the installation."""
    if request.method == "POST":
        with transaction.atomic():
            return _save_settings(request, four_eyes_setting.locked_installation())
    return _show_settings(request, InstallationForm(instance=Installation.current()))


def _save_settings(request: HttpRequest, installation: Installation) -> HttpResponse:
    """Save the settings, but for switching four eyes off: that is asked for. Call it with the row locked."""
    before = copy.copy(installation)
    form = InstallationForm(request.POST, instance=installation)
    if not form.is_valid():
        return _show_settings(request, form)
    switched_off = four_eyes_setting.fields_switched_off(before, form.instance)
    if switched_off and not reauthentication.is_recently_confirmed(request):
        return reauthentication.redirect_to_confirmation(request, then=request.path)
    for name in switched_off:
        setattr(form.instance, f"four_eyes_{name}", True)
    by, now = Actor.of(request), database_now()
    save_form(form, by=by, now=now)
    are_off = four_eyes_setting.ask_to_switch_off(switched_off, by=by, now=now)
    messages.success(request, "The settings are saved. They hold from now on.")
    if switched_off and not are_off:
        messages.warning(request, "Four eyes hold until another administrator agrees to switch them off.")
    return redirect("settings")


def _show_settings(request: HttpRequest, form: InstallationForm) -> HttpResponse:
    installation = Installation.current()
    context = {
        "form": form,
        "installation": installation,
        "may_agree": installation.four_eyes_off_asked_by != current_user(request),
    }
    return render(request, "accounts/settings.html", context)


@require_permissions("accounts.change_installation")
@require_POST
@reauthentication.require_confirmation
def agree_to_four_eyes_off(request: HttpRequest) -> HttpResponse:
    """Switch four eyes off, as another administrator asked for."""
    return _decide(request, four_eyes_setting.agree_to_switch_off, "Four eyes are switched off.")


@require_permissions("accounts.change_installation")
@require_POST
def keep_four_eyes(request: HttpRequest) -> HttpResponse:
    """Leave four eyes as they are, though an administrator asked to switch them off."""
    return _decide(request, four_eyes_setting.keep, "Four eyes stay as they are.")


def _decide(request: HttpRequest, decision: Callable[..., None], done: str) -> HttpResponse:
    try:
        decision(by=Actor.of(request), now=database_now())
    except SettingRefused as error:
        messages.error(request, str(error))
    else:
        messages.success(request, done)
    return redirect("settings")
