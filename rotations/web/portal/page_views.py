"""What partners look at: their page, our certificate as files, and the time as a calendar entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from identities.certificates.public_files import PUBLIC_FORMATS, public_file
from identities.views.common import download_response
from rotations.letters import access_links
from rotations.letters.calendar_invite import build_calendar_file
from rotations.models import Participant
from rotations.web.portal.access import PortalVisit, link_required
from rotations.web.portal.forms import (
    AnswerSlotsForm,
    ColleagueForm,
    DeclineForm,
    HoldsForm,
    InstalledForm,
    PortalForm,
    ProposeForm,
    ReportForm,
)
from rotations.web.portal.history import page_version
from rotations.web.portal.page import PortalPage
from rotations.web.portal.texts import headline

#: Our certificate in the forms that systems take, the most usual first.
DOWNLOADS = (
    ("der", "DER (.cer)", "most systems, Windows"),
    ("pem", "PEM (.pem)", "text; OpenSSL, OpenAS2"),
    ("p7b", "PKCS#7 (.p7b)", "with its issuers"),
    ("zip", "All (.zip)", "with the fingerprints"),
)
#: Parts of the page that stand inside of another one.
ENCLOSING_PARTS = {"propose": "time"}
#: Where each form of the page is sent.
FORM_URL_NAMES = (
    "installed",
    "window",
    "slots",
    "propose",
    "decline",
    "holds",
    "switched",
    "report",
    "colleague",
)


@dataclass(frozen=True)
class RejectedForm:
    """A form that was sent and not taken, and whose part of the page it belongs to."""

    form: PortalForm
    part: str


@require_safe
@link_required
def portal(request: HttpRequest, visit: PortalVisit) -> HttpResponse:
    """Show what is asked. Opening it is noted, and is no answer; mail scanners that only look ahead don't count."""
    if request.method == "GET":
        access_links.record_opened(visit.link, by=visit.by, now=visit.now)
    participant = visit.link.participant
    if participant is None:
        return redirect("portal-hand-in", visit.token)
    return render_page(request, participant, visit)


def render_page(
    request: HttpRequest, participant: Participant, visit: PortalVisit, refused: RejectedForm | None = None
) -> HttpResponse:
    """Answer with a partner's page, with a form that was refused in its place on it."""
    page = PortalPage.of(participant, now=visit.now)
    context = page_context(page, token=visit.token, refused=refused)
    return render(request, "portal/rotation.html", context, status=422 if refused else 200)


def page_context(page: PortalPage, *, token: str, refused: RejectedForm | None = None) -> dict[str, Any]:
    """Return what the page's template needs. Without a token it leads nowhere, and nothing can be sent."""
    to = page_urls(token)
    now = page.question_now
    return {
        "page": page,
        "headline": headline(page),
        "our_name": page.our_name,
        "environment": page.rotation.environment,
        "forms": {**empty_forms(page), **({refused.form.NAME: refused.form} if refused else {})},
        "refused": refused,
        "lost": refused.form.typed if refused and refused.part not in page.parts else [],
        "opened": {
            now.key if now else "",
            ENCLOSING_PARTS.get(refused.part, refused.part) if refused else "",
        },
        "ticked": _ticked_slots(page, refused),
        "seen": page_version(page.participant, now=page.now),
        "to": to,
        "downloads": [(to.get(form, ""), label, for_whom) for form, label, for_whom in DOWNLOADS],
        "now": page.now,
        "read_only": not token,
    }


def _ticked_slots(page: PortalPage, refused: RejectedForm | None) -> set[str]:
    """Return which of the offered times are ticked: as just sent, or as answered before."""
    if refused and isinstance(refused.form, AnswerSlotsForm):
        return refused.form.sent
    nothing = page.answered_slots and not page.able
    return {*(str(slot.uid) for slot in page.slots if slot.pk in page.able), *(["none"] if nothing else [])}


def empty_forms(page: PortalPage) -> dict[str, PortalForm]:
    """Return the forms of a page, each empty, by its name."""
    slots = {str(slot.uid): slot for slot in page.slots}
    forms: list[PortalForm] = [
        InstalledForm(is_own=page.is_own),
        AnswerSlotsForm(slots=slots),
        ProposeForm(page.rotation, page.zone, now=page.now),
        DeclineForm(),
        HoldsForm(),
        ReportForm(),
        ColleagueForm(),
    ]
    return {form.NAME: form for form in forms}


def page_urls(token: str) -> dict[str, str]:
    """Return where the page's forms and links lead, by name; empty ones without a token."""
    if not token:
        return {}
    found = {name: reverse(f"portal-{name}", args=[token]) for name in FORM_URL_NAMES}
    found |= {form: reverse("portal-download", args=[token, form]) for form in PUBLIC_FORMATS}
    return {
        **found,
        "calendar": reverse("portal-calendar", args=[token]),
        "hand_in": reverse("portal-hand-in", args=[token]),
    }


@require_safe
@link_required
def portal_download(request: HttpRequest, visit: PortalVisit, form: str) -> HttpResponse:
    """Answer with our new certificate, and note that it was downloaded; the page says where there is none to give."""
    if form not in PUBLIC_FORMATS:
        raise Http404("There is no such form of a certificate.")
    page = _visited_page(visit)
    if page is None or not page.gives_files:
        return redirect("portal", visit.token)
    if request.method == "GET":
        access_links.record_download(visit.link, form, by=visit.by, now=visit.now)
    file = public_file(page.new, form)
    return download_response(file.content, file.name, file.content_type)


@require_safe
@link_required
def portal_calendar(request: HttpRequest, visit: PortalVisit) -> HttpResponse:
    """Answer with the time of the change for somebody's calendar; nothing in it leads to the page."""
    page = _visited_page(visit)
    if page is None or page.is_over:
        return redirect("portal", visit.token)
    entry = build_calendar_file(
        page.participant,
        method="PUBLISH",
        sequence=page.participant.calendar_sequence or 0,
        support=page.scene.support,
        now=visit.now,
    )
    return download_response(entry.content, entry.name, entry.content_type)


def _visited_page(visit: PortalVisit) -> PortalPage | None:
    participant = visit.link.participant
    return PortalPage.of(participant, now=visit.now) if participant else None
