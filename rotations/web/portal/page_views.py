"""The views of a partner's page: the page itself, our certificate as a file, and a calendar entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from identities.certificates.public_files import PUBLIC_FORMATS, public_file
from identities.views.common import download_response
from rotations.letters import access_links
from rotations.letters.calendar_invite import build_calendar_file
from rotations.models import Participant
from rotations.web.portal.access import PortalVisit, link_required, record_look
from rotations.web.portal.forms import (
    AnswerSlotsForm,
    CapabilityForm,
    ColleagueForm,
    DeclineForm,
    InstalledForm,
    PortalForm,
    ProposeForm,
    ReportForm,
)
from rotations.web.portal.history import page_version
from rotations.web.portal.page import PortalPage
from rotations.web.portal.texts import headline

#: File formats of our certificate, the most common first: name, label, which systems use it.
DOWNLOADS = (
    ("der", "DER (.cer)", "most systems, Windows"),
    ("pem", "PEM (.pem)", "text; OpenSSL, OpenAS2"),
    ("p7b", "PKCS#7 (.p7b)", "with its issuers"),
    ("zip", "All (.zip)", "with the fingerprints"),
)
#: Sections inside another section.
ENCLOSING_SECTIONS = {"propose": "time"}
#: The forms of the page; each is posted to the URL named portal-<name>.
FORM_URL_NAMES = (
    "installed",
    "window",
    "slots",
    "propose",
    "decline",
    "capability",
    "switched",
    "report",
    "colleague",
)


@dataclass(frozen=True)
class RejectedForm:
    """An invalid form, and the section of the page that shows it."""

    form: PortalForm
    section: str


@require_safe
@link_required
def portal(request: HttpRequest, visit: PortalVisit) -> HttpResponse:
    """Render the page and record the look at it, but no HEAD requests."""
    if request.method == "GET":
        record_look(visit)
    participant = visit.link.participant
    if participant is None:
        return redirect("portal-hand-in", visit.token)
    return render_page(request, participant, visit)


def render_page(
    request: HttpRequest, participant: Participant, visit: PortalVisit, rejected: RejectedForm | None = None
) -> HttpResponse:
    """Render a partner's page, with a rejected form in its section."""
    page = PortalPage.of(participant, now=visit.now)
    context = page_context(page, token=visit.token, rejected=rejected) | {"opened_url": opened_url(visit)}
    return render(request, "portal/rotation.html", context, status=422 if rejected else 200)


def opened_url(visit: PortalVisit) -> str:
    """Return the URL to which the page's script posts once a person touches the page; "" when that is known."""
    return "" if visit.link.opened_at else reverse("portal-opened", args=[visit.token])


def page_context(page: PortalPage, *, token: str, rejected: RejectedForm | None = None) -> dict[str, Any]:
    """Return the template context of a page. Without a token, it has no links and its forms are disabled."""
    urls = page_urls(token)
    question = page.open_question
    forms = empty_forms(page)
    open_sections, lost_input = {question.key if question else ""}, []
    if rejected:
        forms[rejected.form.NAME] = rejected.form
        open_sections.add(ENCLOSING_SECTIONS.get(rejected.section, rejected.section))
        lost_input = rejected.form.input_texts if rejected.section not in page.sections else []
    return {
        "page": page,
        "headline": headline(page),
        "our_name": page.our_name,
        "environment": page.rotation.environment,
        "forms": forms,
        "rejected": rejected,
        "lost_input": lost_input,
        "open_sections": open_sections,
        "selected_slots": _selected_slots(page, rejected),
        "seen": page_version(page.participant, now=page.now),
        "urls": urls,
        "downloads": [(urls.get(name, ""), label, systems) for name, label, systems in DOWNLOADS],
        "now": page.now,
        "read_only": not token,
    }


def _selected_slots(page: PortalPage, rejected: RejectedForm | None) -> set[str]:
    """Return the values of the checked times: as posted, or as answered before."""
    if rejected and isinstance(rejected.form, AnswerSlotsForm):
        return rejected.form.posted_choices
    none = page.has_answered_slots and not page.available_slots
    return {
        *(str(slot.uid) for slot in page.slots if slot.pk in page.available_slots),
        *(["none"] if none else []),
    }


def empty_forms(page: PortalPage) -> dict[str, PortalForm]:
    """Return the unbound forms of a page by name."""
    slots = {str(slot.uid): slot for slot in page.slots}
    forms: list[PortalForm] = [
        InstalledForm(is_own=page.is_own),
        AnswerSlotsForm(slots=slots),
        ProposeForm(page.rotation, page.zone, now=page.now),
        DeclineForm(),
        CapabilityForm(),
        ReportForm(),
        ColleagueForm(),
    ]
    return {form.NAME: form for form in forms}


def page_urls(token: str) -> dict[str, str]:
    """Return the URLs of the page's forms and links by name; none without a token."""
    if not token:
        return {}
    found = {name: reverse(f"portal-{name}", args=[token]) for name in FORM_URL_NAMES}
    found |= {form: reverse("portal-download", args=[token, form]) for form in PUBLIC_FORMATS}
    return {
        **found,
        "calendar": reverse("portal-calendar", args=[token]),
        "hand_in": reverse("portal-hand-in", args=[token]),
    }


@require_http_methods(["GET", "HEAD", "POST"])
@link_required
def portal_opened(request: HttpRequest, visit: PortalVisit) -> HttpResponse:
    """Respond to the page's script, which posts once a person touches the page; ``link_required`` has recorded it."""
    return HttpResponse(status=204) if request.method == "POST" else redirect("portal", visit.token)


@require_http_methods(["GET", "HEAD", "POST"])
@link_required
def portal_download(request: HttpRequest, visit: PortalVisit, form: str) -> HttpResponse:
    """Respond with our new certificate as a file, and record it; redirect to the page if there is none.

    The page's buttons post, which counts as a download. A GET, as by curl, gets the same file, but a mail scanner does
    the same: it is recorded as a fetched link only.
    """
    if form not in PUBLIC_FORMATS:
        raise Http404("There is no such form of a certificate.")
    page = _visited_page(visit)
    if page is None or not page.gives_files:
        return redirect("portal", visit.token)
    match request.method:
        case "POST":
            access_links.record_download(visit.link, form, by=visit.by, now=visit.now)
        case "GET":
            access_links.record_file_fetched(visit.link, form, by=visit.by, now=visit.now)
    file = public_file(page.new, form)
    return download_response(file.content, file.name, file.content_type)


@require_safe
@link_required
def portal_calendar(request: HttpRequest, visit: PortalVisit) -> HttpResponse:
    """Respond with a calendar entry of the change, without a link to the page."""
    page = _visited_page(visit)
    if page is None or page.is_over:
        return redirect("portal", visit.token)
    entry = build_calendar_file(page.context, method="PUBLISH", sequence=page.participant.calendar_sequence or 0)
    return download_response(entry.content, entry.name, entry.content_type)


def _visited_page(visit: PortalVisit) -> PortalPage | None:
    participant = visit.link.participant
    return PortalPage.of(participant, now=visit.now) if participant else None
