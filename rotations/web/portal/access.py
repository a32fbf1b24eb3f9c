"""Access control of a partner's pages by the token of a link."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any

from django.conf import settings
from django.core.signing import BadSignature, Signer
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor, client_address
from as2certs.clock import database_now
from rotations.errors import LinkExpired
from rotations.letters import access_links
from rotations.letters.contacts import SupportContact, support_for_partner
from rotations.models import Link
from rotations.web.portal import rate_limit

#: Another GET by the same browser counts as a person's from this time after its first. Mail scanners fetch a page
#: several times within seconds, sandboxes within a minute or two, and neither keeps the cookie of an earlier visit.
SECOND_LOOK_AFTER = timedelta(minutes=5)
#: The cookie that holds the time of a browser's first visit; its path is that of one partner's page.
VISIT_COOKIE = "visit"
#: As long as a link is good after its rotation, so that a partner's browser is known when it looks again afterwards.
VISIT_COOKIE_AGE = timedelta(days=30)


@dataclass(frozen=True)
class PortalVisit:
    """A request with a valid link. ``by`` is the actor for the audit trail: the owner of the link.

    ``first_at`` is when this browser first used the link (UTC); None on its first visit.
    """

    link: Link
    token: str
    by: Actor
    now: datetime
    first_at: datetime | None = None

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
    visit = PortalVisit(link, token, link_actor(request, link), now, _read_first_visit(request, link))
    if request.method == "POST":
        # With the CSRF token of the page: a person pressed a button, or touched the page (static/js/portal.js).
        access_links.record_opened(link, by=visit.by, now=now)
    with timezone.override(link.partner.time_zone):
        response = view(request, visit, **kwargs)
    if visit.first_at is None and request.method != "HEAD":
        _remember_visit(response, visit)
    return response


def record_look(visit: PortalVisit) -> None:
    """Record a GET of a page: as opened if the same browser has looked before, or else as fetched only.

    A first GET may be a mail scanner's. People without JavaScript who press no button are recognized when they look
    again.
    """
    if visit.first_at is not None and visit.now - visit.first_at >= SECOND_LOOK_AFTER:
        access_links.record_opened(visit.link, by=visit.by, now=visit.now)
    else:
        access_links.record_fetched(visit.link, by=visit.by, now=visit.now)


def _visit_signer(link: Link) -> Signer:
    return Signer(salt=f"portal visit {link.uid}")


def _read_first_visit(request: HttpRequest, link: Link) -> datetime | None:
    try:
        seconds = _visit_signer(link).unsign(request.COOKIES.get(VISIT_COOKIE, ""))
        return datetime.fromtimestamp(int(seconds), UTC)
    except (BadSignature, ValueError):
        return None


def _remember_visit(response: HttpResponse, visit: PortalVisit) -> None:
    response.set_cookie(
        VISIT_COOKIE,
        _visit_signer(visit.link).sign(str(int(visit.now.timestamp()))),
        max_age=VISIT_COOKIE_AGE,
        path=reverse("portal", args=[visit.token]),
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",  # sent when a link in a mail is clicked
    )


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
