"""The pages of django-allauth for second factors, with our templates."""

from __future__ import annotations

from typing import Any

from allauth.account.views import ReauthenticateView
from allauth.mfa.base import views as base
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes import views as recovery
from allauth.mfa.totp import views as totp
from allauth.mfa.webauthn import views as webauthn

from as2certs.accounts import second_factors
from as2certs.accounts.models import Installation


class SecondFactorList(base.IndexView):
    """List the user's own second factors."""

    template_name = "accounts/factor_list.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        mine = Authenticator.objects.filter(user=self.request.user).order_by("created_at")
        codes = mine.filter(type=Authenticator.Type.RECOVERY_CODES).first()
        return {
            "app": mine.filter(type=Authenticator.Type.TOTP).first(),
            "passkeys": mine.filter(type=Authenticator.Type.WEBAUTHN),
            "codes": codes,
            "codes_left": len(codes.wrap().get_unused_codes()) if codes else 0,
            "has_one": second_factors.has_second_factor(self.request.user),
            "required": Installation.current().second_factor == Installation.SecondFactor.REQUIRED,
        }


class SecondFactorLogin(base.AuthenticateView):
    """Ask for the second factor at the login."""

    template_name = "accounts/factor_ask.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        mine = Authenticator.objects.filter(user=self.stage.login.user, type=Authenticator.Type.WEBAUTHN)
        return super().get_context_data(**kwargs) | {"has_passkeys": mine.exists()}


class PasskeyRemove(webauthn.RemoveWebAuthnView):
    """Remove one of the user's passkeys."""

    template_name = "accounts/passkey_remove.html"
    context_object_name = "passkey"


index = SecondFactorList.as_view()
authenticate = SecondFactorLogin.as_view()
confirm_by_password = ReauthenticateView.as_view(template_name="accounts/confirm_by_password.html")
confirm_by_code = base.ReauthenticateView.as_view(template_name="accounts/confirm_by_code.html")
confirm_by_passkey = webauthn.ReauthenticateWebAuthnView.as_view(template_name="accounts/confirm_by_passkey.html")
add_app = totp.ActivateTOTPView.as_view(template_name="accounts/app_add.html")
remove_app = totp.DeactivateTOTPView.as_view(template_name="accounts/app_remove.html")
add_passkey = webauthn.AddWebAuthnView.as_view(template_name="accounts/passkey_add.html")
remove_passkey = PasskeyRemove.as_view()
show_codes = recovery.ViewRecoveryCodesView.as_view(template_name="accounts/codes_show.html")
make_codes = recovery.GenerateRecoveryCodesView.as_view(template_name="accounts/codes_make.html")
