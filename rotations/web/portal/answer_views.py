"""The views for partners' answers; each answer has a URL of its own and calls one domain function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from as2certs import pki
from as2certs.errors import DomainError
from rotations.errors import ActionRefused, FingerprintMismatch
from rotations.exchange import responses
from rotations.exchange.time_slots import answer_slots
from rotations.execution import transitions
from rotations.execution.confirmations import PartnerAnswer, agree_to_window, confirm_installation
from rotations.lifecycle import partner_capability
from rotations.models import Participant
from rotations.planning.change import Act
from rotations.planning.partner_actions import Answer
from rotations.web.portal import history, texts
from rotations.web.portal.access import PortalVisit, link_required
from rotations.web.portal.forms import (
    AgreeForm,
    AnswerSlotsForm,
    CapabilityForm,
    ColleagueForm,
    DeclineForm,
    InstalledForm,
    PortalForm,
    ProposeForm,
    ReportForm,
    SwitchedForm,
)
from rotations.web.portal.page import PortalPage
from rotations.web.portal.page_views import RejectedForm, render_page

AnswerView = Callable[..., HttpResponse]

#: The sections of the page with the forms of answers, where they are named otherwise.
SECTIONS = {Answer.AGREE: "time", Answer.SLOTS: "time"}


def answer_view(view: Callable[[HttpRequest, PortalVisit, PortalPage], HttpResponse]) -> AnswerView:
    """Decorate the view of an answer: require a valid link, and redirect a GET (as by reloading) to the page."""

    @require_http_methods(["GET", "HEAD", "POST"])
    @link_required
    @wraps(view)
    def guarded(request: HttpRequest, visit: PortalVisit) -> HttpResponse:
        participant = visit.link.participant
        if request.method != "POST" or participant is None:
            return redirect("portal", visit.token)
        return view(request, visit, PortalPage.of(participant, now=visit.now))

    return guarded


@dataclass(frozen=True)
class PortalAnswer:
    """A posted form, what it answers, how to apply it, and the message after that."""

    form: PortalForm
    answer: Answer
    apply: Callable[[Participant], Any]
    message: Callable[[PortalPage], str]

    @property
    def section(self) -> str:
        """Return the section of the page with the form."""
        return SECTIONS.get(self.answer, self.answer.value)


def process_answer(request: HttpRequest, visit: PortalVisit, page: PortalPage, answer: PortalAnswer) -> HttpResponse:
    """Apply an answer and report what was recorded; or render the page with the input and the error."""
    form, is_valid = answer.form, answer.form.is_valid()
    if not form.holds_key:
        try:
            with transaction.atomic():
                participant = _lock_unchanged(page.participant, request.POST.get("seen", ""))
                responses.require_possible(participant, answer.answer, now=visit.now)
                if is_valid:
                    answer.apply(participant)
        except FingerprintMismatch as error:
            form.refuse(_mismatch_text(page, is_old=error.is_old), _error_field(form))
        except DomainError as error:
            form.refuse(str(error))
    if not form.is_valid():
        return render_page(request, page.participant, visit, RejectedForm(form, answer.section))
    messages.success(request, answer.message(PortalPage.of(page.participant, now=visit.now)))
    return redirect("portal", visit.token)


def _lock_unchanged(participant: Participant, seen: str) -> Participant:
    """Return the current participant with its rotation locked, if it has not changed since the page was rendered.

    Raises PageOutdated, and ActionRefused when the partner was left out of the change.
    """
    rotation = transitions.lock_rotation(participant.rotation_id)
    participant = rotation.participants.select_related("partner").get(pk=participant.pk)
    participant.rotation = rotation
    history.require_current_page(participant, seen)
    if participant.is_removed:
        raise ActionRefused("This change no longer concerns you: you have nothing to do.")
    return participant


def _error_field(form: PortalForm) -> str | None:
    return form.proof_field if isinstance(form, InstalledForm) else None


def _mismatch_text(page: PortalPage, *, is_old: bool) -> str:
    new = pki.format_fingerprint(page.new.sha256)
    if is_old:
        return (
            "That is the old certificate, the one that you had already. The new one’s SHA-256 begins with "
            f"{new[:11]}: look whether it is in your system too, and paste that."
        )
    return (
        "That is another certificate, neither the old nor the new one. The new one’s SHA-256 begins with "
        f"{new[:11]} and ends with {new[-5:]}: look for it in your system, or download it again here."
    )


@answer_view
def portal_installed(request: HttpRequest, visit: PortalVisit, page: PortalPage) -> HttpResponse:
    """Record that the certificate is installed, with or without a proof."""
    form = InstalledForm(request.POST, request.FILES, is_own=page.is_own)

    def apply(participant: Participant) -> None:
        answer = PartnerAnswer(
            visit.link.whose,
            by=visit.by,
            now=visit.now,
            note=form.cleaned_data["note"] or None,
            another_channel=False,
        )
        confirm_installation(participant, answer, fingerprint=form.proof)

    return process_answer(request, visit, page, PortalAnswer(form, Answer.INSTALLED, apply, texts.installed_message))


@answer_view
def portal_window(request: HttpRequest, visit: PortalVisit, page: PortalPage) -> HttpResponse:
    """Record the agreement to the window."""
    form = AgreeForm(request.POST)

    def apply(participant: Participant) -> None:
        answer = PartnerAnswer(visit.link.whose, by=visit.by, now=visit.now, note=None, another_channel=False)
        agree_to_window(participant, answer)

    return process_answer(request, visit, page, PortalAnswer(form, Answer.AGREE, apply, texts.time_message))


@answer_view
def portal_slots(request: HttpRequest, visit: PortalVisit, page: PortalPage) -> HttpResponse:
    """Record which of the offered times suit the partner."""
    form = AnswerSlotsForm(request.POST, slots={str(slot.uid): slot for slot in page.slots})

    def apply(participant: Participant) -> None:
        answer_slots(participant, form.chosen, by=visit.by, now=visit.now)

    return process_answer(request, visit, page, PortalAnswer(form, Answer.SLOTS, apply, texts.slots_message))


@answer_view
def portal_propose(request: HttpRequest, visit: PortalVisit, page: PortalPage) -> HttpResponse:
    """Record the proposal of another time."""
    form = ProposeForm(page.rotation, page.zone, request.POST, now=visit.now)

    def apply(participant: Participant) -> None:
        assert form.window is not None  # a valid form has one
        responses.propose_window(participant, form.window, note=form.cleaned_data["note"], by=visit.by, now=visit.now)

    return process_answer(request, visit, page, PortalAnswer(form, Answer.PROPOSE, apply, texts.proposal_message))


@answer_view
def portal_decline(request: HttpRequest, visit: PortalVisit, page: PortalPage) -> HttpResponse:
    """Record that the partner declines."""
    form = DeclineForm(request.POST)

    def apply(participant: Participant) -> None:
        responses.decline(participant, reason=form.cleaned_data["reason"], by=visit.by, now=visit.now)

    return process_answer(request, visit, page, PortalAnswer(form, Answer.DECLINE, apply, texts.decline_message))


@answer_view
def portal_capability(request: HttpRequest, visit: PortalVisit, page: PortalPage) -> HttpResponse:
    """Record what the partner's system can do; one of our people decides on it."""
    form = CapabilityForm(request.POST)

    def apply(participant: Participant) -> None:
        answer, software = form.cleaned_data["keeps_both"], form.cleaned_data["software"]
        partner_capability.record_capability(participant, answer, software, by=visit.by, now=visit.now)

    return process_answer(request, visit, page, PortalAnswer(form, Answer.CAPABILITY, apply, texts.capability_message))


@answer_view
def portal_switched(request: HttpRequest, visit: PortalVisit, page: PortalPage) -> HttpResponse:
    """Record that the partner switched, or removed the old certificate."""
    form = SwitchedForm(request.POST)
    which = Answer.DROPPED if request.POST.get("act") == Act.PARTNER_RETIRE else Answer.SWITCHED

    def apply(participant: Participant) -> None:
        responses.report_switched(participant, form.cleaned_data["act"], by=visit.by, now=visit.now)

    return process_answer(request, visit, page, PortalAnswer(form, which, apply, texts.switch_message))


@answer_view
def portal_report(request: HttpRequest, visit: PortalVisit, page: PortalPage) -> HttpResponse:
    """Record whether messages flow after the change."""
    form = ReportForm(request.POST)

    def apply(participant: Participant) -> None:
        works = form.cleaned_data["works"] == "yes"
        responses.report_result(participant, works=works, note=form.cleaned_data["note"], by=visit.by, now=visit.now)

    return process_answer(request, visit, page, PortalAnswer(form, Answer.WORKS, apply, texts.report_message))


@answer_view
def portal_colleague(request: HttpRequest, visit: PortalVisit, page: PortalPage) -> HttpResponse:
    """Record the colleague that a partner names as the person in charge."""
    form = ColleagueForm(request.POST)

    def apply(participant: Participant) -> None:
        suggestion = responses.SuggestedContact(**form.cleaned_data)
        responses.suggest_contact(participant, suggestion, by=visit.by, now=visit.now)

    return process_answer(request, visit, page, PortalAnswer(form, Answer.COLLEAGUE, apply, texts.colleague_message))
