"""OpenID Connect: what is checked beyond django-allauth, and who is let in.

Separate from sign_on.py, because it imports libraries that only the pages of single sign-on need.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from typing import Any, NoReturn

import jwt
import requests
from allauth.account.internal.flows.login import record_authentication
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.internal import jwtkit
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialLogin
from allauth.socialaccount.providers.base import AuthError
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.http import HttpRequest
from django.shortcuts import redirect
from django.urls import reverse

from as2certs.accounts.models import Installation, User
from as2certs.accounts.sign_on import (
    is_enabled,
    provider_actor,
    provider_id,
    provider_name,
    provider_settings,
    roles_from_claims,
    set_roles,
    username_from_claims,
)
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.clock import database_now
from as2certs.one_line import to_one_line

logger = logging.getLogger(__name__)

#: Algorithms that an ID token may be signed with: asymmetric ones only.
SIGNATURE_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"})
#: Seconds by which the clocks of provider and application may differ.
CLOCK_SKEW_SECONDS = 60


class SignOnRefused(OAuth2Error):
    """The answer of the provider is invalid. The message contains nothing secret."""


class CompanyProvider(OpenIDConnectProvider):
    """The provider of the settings, used with PKCE and a nonce."""

    pkce_enabled_default = True

    def get_callback_url(self) -> str:
        return reverse("sign-on-return")

    def get_oauth2_adapter(self, request: HttpRequest) -> CompanyAdapter:
        return CompanyAdapter(request, provider_id())

    def redirect(
        self, request: HttpRequest, process: str, next_url: Any = None, data: Any = None, **kwargs: Any
    ) -> Any:
        """Redirect to the provider; nonce and time are kept in the session until the callback."""
        nonce = secrets.token_urlsafe(32)
        params = {**(kwargs.pop("auth_params", None) or {}), "nonce": nonce}
        state = {"nonce": nonce, "asked_at": time.time(), **kwargs}
        return super().redirect(request, process, next_url, data, auth_params=params, **state)

    def cleanup_email_addresses(self, email: str | None, addresses: list[Any], email_verified: bool = False) -> Any:
        """Store no e-mail addresses: nobody is identified by them."""
        addresses.clear()
        return email

    def extract_extra_data(self, data: dict[str, Any]) -> dict[str, Any]:
        """Store no claims except the subject."""
        return {}


class CompanyAdapter(OpenIDConnectOAuth2Adapter):
    """allauth's OpenID Connect, with every check that the standard provides for a client."""

    def get_callback_url(self, request: HttpRequest, app: SocialApp) -> str:
        return f"{settings.AS2CERTS_BASE_URL}{reverse('sign-on-return')}"

    def complete_login(self, request: HttpRequest, app: SocialApp, token: Any, **kwargs: Any) -> SocialLogin:
        """Return the login for the verified claims. Raises OAuth2Error if they are invalid."""
        try:
            claims = self._verified_claims(app, kwargs["response"].get("id_token"))
            info = self._fetch_user_info(token.token) if "userinfo_endpoint" in self.openid_config else {}
        except (KeyError, TypeError, ValueError, jwt.PyJWTError) as error:
            raise SignOnRefused(f"its answer is not as the standard says ({type(error).__name__})") from error
        if info and info.get("sub") != claims["sub"]:  # OpenID Connect Core, section 5.3.2
            raise SignOnRefused("it spoke of two different people")
        login = self.get_provider().sociallogin_from_response(request, {"id_token": claims})
        login.claims = {**info, **claims}
        return login

    def _verified_claims(self, app: SocialApp, id_token: str | None) -> dict[str, Any]:
        """Validate an ID token (OpenID Connect Core, section 3.1.3.7), except for the nonce, and return its claims."""
        if not isinstance(id_token, str):
            raise SignOnRefused("it sent no ID token")
        config = self.openid_config
        if config["issuer"] != provider_settings()["issuer"]:
            raise SignOnRefused(f"it calls itself {config['issuer']!r}, and not as AS2CERTS_OIDC_ISSUER does")
        if jwt.get_unverified_header(id_token).get("alg") not in SIGNATURE_ALGORITHMS:
            raise SignOnRefused("its ID token is not signed as we want it")
        try:
            claims: dict[str, Any] = jwtkit.verify_and_decode(
                credential=id_token,
                keys_url=config["jwks_uri"],
                issuer=config["issuer"],
                audience=app.client_id,
                lookup_kid=jwtkit.lookup_kid_jwk,
            )
        except OAuth2Error as error:
            why = type(error.__cause__ or error).__name__
            raise SignOnRefused(f"its ID token does not hold ({why})") from error
        audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if claims.get("azp", app.client_id) != app.client_id or (len(audience) > 1 and "azp" not in claims):
            raise SignOnRefused("its ID token is meant for somebody else")
        if not all(claims.get(part) for part in ("sub", "exp", "iat")):
            raise SignOnRefused("its ID token says too little")
        return claims


class SignOnAdapter(DefaultSocialAccountAdapter):
    """Decide who may log in by single sign-on, and with which roles."""

    def list_apps(self, request: HttpRequest, provider: Any = None, client_id: Any = None) -> list[SocialApp]:
        """Return the provider of the settings; none is stored in the database."""
        if not is_enabled():
            return []
        config = provider_settings()
        return [
            SocialApp(
                provider="openid_connect",
                provider_id=provider_id(),
                name=config["name"],
                client_id=config["client_id"],
                secret=config["secret"],
                settings={"server_url": config["issuer"].rstrip("/"), "scope": config["scopes"]},
            )
        ]

    def get_provider(self, request: HttpRequest, provider: Any = None, client_id: Any = None) -> CompanyProvider:
        return CompanyProvider(request, app=self.get_app(request, provider=provider_id()))

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Check the nonce, then the person; refuse the login by an exception."""
        claims, state = sociallogin.claims, sociallogin.state
        if not hmac.compare_digest(str(claims.get("nonce", "")), str(state.get("nonce") or secrets.token_hex())):
            refuse_login(request, "its answer belongs to another login (nonce)")
        if state.get("confirms"):
            _confirm_person(request, sociallogin)
            return
        roles = roles_from_claims(claims)
        user = sociallogin.user if sociallogin.is_existing else None
        if user is not None:
            set_roles(user, roles, request)
        if not roles:
            refuse_login(
                request,
                "none of the person’s groups has a role here",
                say=f"{provider_name()} knows you, but none of your groups there has a role here. "
                "Ask an administrator of your "
                "company to put you into one.",
                user=user,
            )
        if user is None:
            _require_free_username(request, sociallogin)

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return True  # pre_social_login has refused people without a role

    def is_auto_signup_allowed(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return True  # without a form

    def save_user(self, request: HttpRequest, sociallogin: SocialLogin, form: Any = None) -> User:
        """Create the account and its roles at the first login of a person."""
        user: User = sociallogin.user
        user.username = username_from_claims(sociallogin.claims)
        for name in ("first_name", "last_name", "email"):
            setattr(user, name, to_one_line(getattr(user, name)))
        user.time_zone = Installation.current().time_zone
        user.set_unusable_password()
        with transaction.atomic():
            user.save()
            SocialAccount.objects.create(user=user, provider=provider_id(), uid=sociallogin.account.uid)
            by = provider_actor(request)
            record(AuditEvent("user.created", user, new={"username": user.username}), by=by, now=database_now())
            set_roles(user, roles_from_claims(sociallogin.claims), request)
        return user

    def on_authentication_error(
        self,
        request: HttpRequest,
        provider: Any,
        error: Any = None,
        exception: Exception | None = None,
        extra_context: Any = None,
    ) -> None:
        """Show on the login page that it failed. Only an invalid answer of the provider is recorded in the trail."""
        if isinstance(exception, SignOnRefused):
            refuse_login(request, str(exception))
        if isinstance(exception, OAuth2Error):
            logger.warning(
                "Single sign-on: %s did not take the code back that it gave. Are AS2CERTS_OIDC_CLIENT_ID and "
                "AS2CERTS_OIDC_CLIENT_SECRET those of this client there?",
                provider_name(),
            )
        elif exception is not None:
            log_provider_error(exception)
        elif error != AuthError.CANCELLED and "error" in request.GET:
            logger.warning(
                "Single sign-on: %s answered %.60r. Does it allow this client the scopes of AS2CERTS_OIDC_SCOPES?",
                provider_name(),
                request.GET["error"],
            )
        messages.error(request, f"The login at {provider_name()} was not finished. Try again.")
        raise ImmediateHttpResponse(redirect("login"))


def log_provider_error(error: Exception) -> None:
    """Log that the provider did not answer properly, and its address."""
    logger.warning(
        "Single sign-on: %s could not be asked: %s. Is AS2CERTS_OIDC_ISSUER right, and is there an answer at "
        "%s/.well-known/openid-configuration from this machine?",
        provider_name(),
        type(error).__name__,
        provider_settings()["issuer"].rstrip("/"),
    )


def refuse_login(request: HttpRequest, why: str, *, say: str = "", user: User | None = None) -> NoReturn:
    """Refuse a login, record the reason ``why``, and show it, or ``say``, to the person."""
    with transaction.atomic():
        by = Actor.of(request)
        on = user or Installation.current()
        record(
            AuditEvent("person.sign_on_refused", on, reason=f"{provider_name()}: {why}"[:500]),
            by=by,
            now=database_now(),
        )
    messages.error(
        request,
        say or f"{provider_name()} could not be believed: {why}. Try again; if it stays so, tell an administrator.",
    )
    raise ImmediateHttpResponse(redirect("account" if request.user.is_authenticated else "login"))


def _require_free_username(request: HttpRequest, sociallogin: SocialLogin) -> None:
    """Refuse a new person whose user name is taken: it may belong to somebody else."""
    username = username_from_claims(sociallogin.claims)
    taken = User.objects.filter(username__iexact=username).first()
    if taken is None:
        try:
            validate_email(sociallogin.user.email)
        except ValidationError:
            sociallogin.user.email = ""
        return
    refuse_login(
        request,
        f"somebody new there has the user name {username}, which somebody has here; their subject is "
        f"{sociallogin.account.uid}",
        say=f"Somebody here has the user name {username} already. If that is you, ask an administrator to link the two "
        f"(your subject at {provider_name()}: {sociallogin.account.uid}).",
        user=taken,
    )


def _confirm_person(request: HttpRequest, sociallogin: SocialLogin) -> None:
    """Accept a reauthentication if the same person has just logged in at the provider."""
    if not request.user.is_authenticated or sociallogin.user != request.user:
        refuse_login(request, "another person confirmed than the one who is logged in here")
    at = sociallogin.claims.get("auth_time")
    if not isinstance(at, int | float) or at < sociallogin.state["asked_at"] - CLOCK_SKEW_SECONDS:
        refuse_login(
            request,
            "it did not ask again who it is (auth_time)",
            say=f"{provider_name()} did not ask you again who you are, or does not say so. Confirm in another way.",
            user=request.user,
        )
    record_authentication(request, request.user, "socialaccount", provider=provider_id(), reauthenticated=True)


#: Exceptions of requests to the provider.
PROVIDER_ERRORS = (requests.RequestException, OAuth2Error, KeyError, ValueError)
