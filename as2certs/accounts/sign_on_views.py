"""The way to single sign-on and back."""

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
    """Lead somebody to the provider to log in."""
    if not sign_on.is_enabled():
        raise Http404
    return _redirect_to_provider(request, AuthProcess.LOGIN, otherwise="login")


@login_required
@require_http_methods(["GET", "POST"])
def confirm(request: HttpRequest) -> HttpResponse:
    """Lead somebody who is logged in to the provider, to show again who they are."""
    if not sign_on.is_linked(request.user):
        raise Http404
    if request.method == "POST":
        again = {"prompt": "login", "max_age": "0"}
        return _redirect_to_provider(
            request, AuthProcess.REDIRECT, otherwise="account", auth_params=again, confirms=True
        )
    others = [
        way for way in AccountAdapter().get_reauthentication_methods(request.user) if way["id"] != "sign-on"
    ]
    context = {
        "next": _next_url(request),
        "sign_on_name": sign_on.provider_name(),
        "reauthentication_alternatives": [
            {**way, "url": f"{way['url']}?next={_next_url(request)}"} for way in others
        ],
    }
    return render(request, "accounts/confirm_by_sign_on.html", context)


@never_cache
@require_GET
def come_back(request: HttpRequest) -> HttpResponse:
    """Take what the provider says; allauth goes on from there."""
    if not sign_on.is_enabled():
        raise Http404
    view = OAuth2CallbackView.adapter_view(openid.CompanyAdapter(request, sign_on.provider_id()))
    return view(request)


def _redirect_to_provider(request: HttpRequest, process: str, *, otherwise: str, **how: Any) -> HttpResponse:
    """Answer with a page that goes on by itself.

    A redirect would be stopped by the page's own policy: a form may lead to this application only (``form-action``).
    """
    try:
        provider = openid.SignOnAdapter().get_provider(request)
        answer = provider.redirect(request, process, next_url=_next_url(request), **how)
    except openid.PROVIDER_ERRORS as error:
        openid.log_provider_error(error)
        messages.error(request, f"{sign_on.provider_name()} does not answer. Try again in a while.")
        return redirect(otherwise)
    page = render(
        request,
        "accounts/sign_on_going.html",
        {"sign_on_name": sign_on.provider_name(), "url": answer["Location"]},
    )
    page["Refresh"] = f"0; url={answer['Location']}"
    return page


def _next_url(request: HttpRequest) -> str:
    """Return where somebody wanted to go, within this application."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    safe = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if safe else resolve_url("home")
