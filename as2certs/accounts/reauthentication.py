"""Reauthentication before sensitive actions: by password, second factor or single sign-on.

django-allauth records the authentications in the session, and provides the pages.
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
    """Return whether the user reauthenticated within ACCOUNT_REAUTHENTICATION_TIMEOUT seconds.

    With ``logins_too``, a login counts as well.
    """
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
    """Return whether a page of allauth, such as those of second factors, may be used without reauthentication.

    A recent login does not suffice: somebody at an unattended browser could add a factor and reauthenticate with it.
    It does for users without a password, because their provider may be unable to ask again.
    """
    no_password = isinstance(request.user, User) and not request.user.has_usable_password()
    return is_recently_confirmed(request, logins_too=app == "allauth.mfa" and no_password)


def redirect_to_confirmation(request: HttpRequest, *, then: str) -> HttpResponse:
    """Redirect to the page of reauthentication, and from there to ``then``.

    The data of a form is dropped: it may contain a secret. Raises PermissionDenied if the user has no method.
    """
    methods = get_adapter().get_reauthentication_methods(request.user)
    if not methods:
        raise PermissionDenied
    if request.method == "POST":
        messages.warning(request, "Nothing was changed yet: confirm first that it is you, then do it again.")
    return redirect(f"{methods[0]['url']}?{urlencode({'next': then})}")


def require_confirmation(view: View[P]) -> View[P]:
    """Require a recent reauthentication for a view; goes below ``require_permissions``."""

    @wraps(view)
    def wrapper(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not is_recently_confirmed(request):
            return redirect_to_confirmation(request, then=request.get_full_path())
        return view(request, *args, **kwargs)

    return wrapper
