"""Redirect to the provider of single sign-on, and handle its callback."""

from __future__ import annotations

from typing import Any

from allauth.socialaccount.providers.base import AuthProcess
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from as2certs.accounts import openid, sign_on
from as2certs.accounts.adapters import AccountAdapter


@require_POST
def begin(request: HttpRequest) -> HttpResponse:
    """Redirect to the provider to log in."""
    if not sign_on.is_enabled():
        raise Http404
    return _redirect_to_provider(request, AuthProcess.LOGIN, otherwise="login")


@login_required
@require_http_methods(["GET", "POST"])
def confirm(request: HttpRequest) -> HttpResponse:
    """Redirect a logged-in user to the provider to reauthenticate."""
    if not sign_on.is_linked(request.user):
        raise Http404
    if request.method == "POST":
        again = {"prompt": "login", "max_age": "0"}
        return _redirect_to_provider(
            request, AuthProcess.REDIRECT, otherwise="account", auth_params=again, confirms=True
        )
    others = [
        method for method in AccountAdapter().get_reauthentication_methods(request.user) if method["id"] != "sign-on"
    ]
    context = {
        "next": _next_url(request),
        "sign_on_name": sign_on.provider_name(),
        "reauthentication_alternatives": [
            {**method, "url": f"{method['url']}?next={_next_url(request)}"} for method in others
        ],
    }
    return render(request, "accounts/confirm_by_sign_on.html", context)


@never_cache
@require_GET
def callback(request: HttpRequest) -> HttpResponse:
    """Handle the answer of the provider with allauth."""
    if not sign_on.is_enabled():
        raise Http404
    view = OAuth2CallbackView.adapter_view(openid.CompanyAdapter(request, sign_on.provider_id()))
    return view(request)


def _redirect_to_provider(request: HttpRequest, process: str, *, otherwise: str, **how: Any) -> HttpResponse:
    """Return a page that refreshes to the provider.

    The Content-Security-Policy forbids forms to redirect to other sites (``form-action``).
    """
    try:
        provider = openid.SignOnAdapter().get_provider(request)
        response = provider.redirect(request, process, next_url=_next_url(request), **how)
    except openid.PROVIDER_ERRORS as error:
        openid.log_provider_error(error)
        messages.error(request, f"{sign_on.provider_name()} does not answer. Try again in a while.")
        return redirect(otherwise)
    page = render(
        request,
        "accounts/sign_on_going.html",
        {"sign_on_name": sign_on.provider_name(), "url": response["Location"]},
    )
    page["Refresh"] = f"0; url={response['Location']}"
    return page


def _next_url(request: HttpRequest) -> str:
    """Return the URL to continue at, within this application."""
    url = request.POST.get("next") or request.GET.get("next") or ""
    safe = url_has_allowed_host_and_scheme(url, {request.get_host()}, require_https=request.is_secure())
    return url if safe else resolve_url("home")
