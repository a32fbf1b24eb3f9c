"""Access control of a partner's pages by the token of a link."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor, client_address
from as2certs.clock import database_now
from rotations.errors import LinkExpired
from rotations.letters import access_links
from rotations.letters.contacts import SupportContact, support_for_partner
from rotations.models import Link
from rotations.web.portal import rate_limit


@dataclass(frozen=True)
class PortalVisit:
    """A request with a valid link. ``by`` is the actor for the audit trail: the owner of the link."""

    link: Link
    token: str
    by: Actor
    now: datetime

    def __repr__(self) -> str:
        return f"<Visit by {self.link!r}>"


def link_required(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Decorate a view to require a valid link and to use its partner's time zone.

    The view takes the request, the visit and the other URL arguments. The response is 404 for an unknown token, 410
    for a link that was revoked or has expired, and 429 after too many requests. A locked-out address gets the same
    response for any token.
    """

    @wraps(view)
    def guarded(request: HttpRequest, token: str, **kwargs: Any) -> HttpResponse:
        response = _respond(view, request, token, **kwargs)
        response.headers["Cache-Control"] = "no-store, private"
        response.headers["X-Robots-Tag"] = "noindex, nofollow"
        return response

    return guarded


def _respond(view: Callable[..., HttpResponse], request: HttpRequest, token: str, **kwargs: Any) -> HttpResponse:
    now, address = database_now(), client_address(request)
    link = access_links.find_link(token)
    if rate_limit.is_locked_out(address, now=now) and not (link and rate_limit.may_bypass_lockout(link, address)):
        return _access_denied(request, "locked", 429)
    if link is None:
        rate_limit.record_wrong_token(address, now=now)
        return _access_denied(request, "unknown", 404)
    try:
        access_links.require_active_link(link, now=now)
    except LinkExpired as gone:
        return _access_denied(request, "gone", 410, text=str(gone), support=support_for_partner(link.partner))
    if request.method == "POST" and rate_limit.is_over_limit(link, now=now):
        return _access_denied(request, "busy", 429)
    with timezone.override(link.partner.time_zone):
        return view(request, PortalVisit(link, token, link_actor(request, link), now), **kwargs)


def link_actor(request: HttpRequest, link: Link) -> Actor:
    """Return the actor of a request by link; a logged-in user is named too, so they can't pass for the partner."""
    owner = f"{link.whose} ({link.partner})" if link.whose else str(link.partner)
    user = request.user if request.user.is_authenticated else None
    name = f"{user}, by the link of {owner}" if user else owner
    return Actor(name=name[:200], source=Entry.Source.PORTAL, user=user, address=client_address(request))


def _access_denied(
    request: HttpRequest, reason: str, status: int, *, text: str = "", support: SupportContact | None = None
) -> HttpResponse:
    """Render why access is denied; the support contact is shown only to visitors with a former link."""
    context = {"reason": reason, "text": text, "support": support}
    return render(request, "portal/access_denied.html", context, status=status)
