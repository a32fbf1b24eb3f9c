"""Whoever does something grave says again who they are: by password, second factor or single sign-on.

django-allauth notes in the session how and when somebody did; it also has the pages that ask.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec
from urllib.parse import urlencode

from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.login import get_authentication_records
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect

from as2certs.accounts.models import User

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]


def is_recently_confirmed(request: HttpRequest, *, logins_too: bool = False) -> bool:
    """Say whether somebody showed again who they are within the last minutes, of the machine's own clock."""
    if not isinstance(request.user, User):
        return False
    since = time.time() - settings.ACCOUNT_REAUTHENTICATION_TIMEOUT
    return any(
        entry["at"] > since
        and (logins_too or entry.get("reauthenticated"))
        and entry["method"] in settings.ACCOUNT_REAUTHENTICATION_METHODS
        for entry in get_authentication_records(request, request.user)
    )


def is_sufficient(request: HttpRequest, *, app: str) -> bool:
    """Say whether a page of allauth, such as those about second factors, may do what it does.

    A login just now is not enough: whoever sits down at an open browser would add a factor of theirs, and confirm with
    it. It has to be for those without a password, whose provider may not be able to ask them again.
    """
    no_password = isinstance(request.user, User) and not request.user.has_usable_password()
    return is_recently_confirmed(request, logins_too=app == "allauth.mfa" and no_password)


def redirect_to_confirmation(request: HttpRequest, *, then: str) -> HttpResponse:
    """Lead somebody to the page that asks, and from there to ``then``.

    What was typed into a form is not kept: it may hold a secret. Raises PermissionDenied where there is no way to ask.
    """
    ways = get_adapter().get_reauthentication_methods(request.user)
    if not ways:
        raise PermissionDenied
    if request.method == "POST":
        messages.warning(request, "Nothing was changed yet: confirm first that it is you, then do it again.")
    return redirect(f"{ways[0]['url']}?{urlencode({'next': then})}")


def require_confirmation(view: View[P]) -> View[P]:
    """Let only people go on to a view who showed again, minutes ago, who they are; behind the check of rights."""

    @wraps(view)
    def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not is_recently_confirmed(request):
            return redirect_to_confirmation(request, then=request.get_full_path())
        return view(request, *args, **kwargs)

    return guarded
