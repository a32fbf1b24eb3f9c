"""The templates of mails to partners: for all partners in the settings, for one partner on its page."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.db import IntegrityError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from as2certs.accounts.access import require_permissions
from as2certs.accounts.models import Installation
from as2certs.audit.form_saving import save_form
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from identities.views.common import post_data
from partners.models import Partner
from rotations.errors import UnknownPlaceholder
from rotations.letters import mail_templates
from rotations.models import Phrase
from rotations.web.forms.partners import PhraseForm


@require_permissions("accounts.change_installation")
def phrase_list(request: HttpRequest) -> HttpResponse:
    return _render_list(request, None)


@require_permissions("accounts.change_installation")
def phrase_update(request: HttpRequest, kind: str) -> HttpResponse:
    return _update_phrase(request, None, kind)


@require_POST
@require_permissions("accounts.change_installation")
def phrase_reset(request: HttpRequest, kind: str) -> HttpResponse:
    return _reset_phrase(request, None, kind)


@require_permissions("partners.change_partner")
def partner_phrase_list(request: HttpRequest, uid: UUID) -> HttpResponse:
    return _render_list(request, get_object_or_404(Partner, uid=uid))


@require_permissions("partners.change_partner")
def partner_phrase_update(request: HttpRequest, uid: UUID, kind: str) -> HttpResponse:
    return _update_phrase(request, get_object_or_404(Partner, uid=uid), kind)


@require_POST
@require_permissions("partners.change_partner")
def partner_phrase_reset(request: HttpRequest, uid: UUID, kind: str) -> HttpResponse:
    return _reset_phrase(request, get_object_or_404(Partner, uid=uid), kind)


def _render_list(request: HttpRequest, partner: Partner | None) -> HttpResponse:
    wording = mail_templates.MailTextSet.of([partner] if partner else [])
    kinds = [
        {
            "label": kind.label,
            "subject": (wording.of_partner(kind, partner) if partner else wording.of_all(kind)).subject,
            "is_own": (kind.value, partner.pk if partner else None) in wording.texts,
            "is_of_all": (kind.value, None) in wording.texts,
            "url": _url("update", partner, kind),
        }
        for kind in Phrase.Kind
    ]
    context = {
        "partner": partner,
        "kinds": kinds,
        "installation": Installation.current(),
        "now": database_now(),
    }
    return render(request, "rotations/phrase_list.html", context)


def _update_phrase(request: HttpRequest, partner: Partner | None, kind: str) -> HttpResponse:
    """Show and save a template; with ``look``, only render an example."""
    _check_kind(kind)
    form = PhraseForm(kind, partner, post_data(request))
    is_preview = "look" in request.POST
    if request.method == "POST" and form.is_valid() and not is_preview and _save_phrase(request, form, partner):
        return redirect(_url("list", partner))
    values = mail_templates.example_values(partner)
    try:
        example = form.words.filled({name: values[name] for name in mail_templates.placeholders_for(kind)})
    except UnknownPlaceholder:
        example = None
    context = {
        "partner": partner,
        "kind": Phrase.Kind(kind),
        "form": form,
        "example": example,
        "placeholders": [(name, mail_templates.PLACEHOLDERS[name]) for name in mail_templates.placeholders_for(kind)],
        "list_url": _url("list", partner),
        "reset_url": _url("reset", partner, kind) if form.is_own else "",
        "of_all": Phrase.objects.filter(kind=kind, partner=None).exists(),
        "now": database_now(),
    }
    if is_preview and getattr(request, "htmx", False):
        return render(request, "rotations/_phrase_example.html", context)
    return render(request, "rotations/phrase_form.html", context, status=422 if form.errors and not is_preview else 200)


def _save_phrase(request: HttpRequest, form: PhraseForm, partner: Partner | None) -> bool:
    """Save the template; on a conflict with another user, add an error to the form and return False."""
    if form.is_unchanged:
        messages.info(request, "That is the wording in force already: nothing was changed.")
        return True
    try:
        save_form(form, by=Actor.of(request), now=database_now(), also=[partner or Installation.current()])
    except IntegrityError:
        form.add_error(None, "Somebody wrote this wording at the same moment. Open it again, and look at theirs first.")
        return False
    whom = partner or "all partners that have none of their own"
    messages.success(request, f"The wording is saved. It holds from the next mail on, for {whom}.")
    return True


def _reset_phrase(request: HttpRequest, partner: Partner | None, kind: str) -> HttpResponse:
    _check_kind(kind)
    if mail_templates.reset_mail_text(kind, partner, by=Actor.of(request), now=database_now()):
        source = "as for all partners" if partner else "as it comes with the application"
        messages.success(request, f"The wording is {source} again.")
    else:
        messages.info(request, "There was no own wording any more: nothing was changed.")
    return redirect(_url("list", partner))


def _check_kind(kind: str) -> None:
    if kind not in Phrase.Kind.values:
        raise Http404("There are no mails of this kind.")


def _url(verb: str, partner: Partner | None, kind: str = "") -> str:
    kwargs = {"kind": str(kind)} if kind else {}
    if partner is None:
        return reverse(f"phrase-{verb}", kwargs=kwargs)
    return reverse(f"partner-phrase-{verb}", kwargs={"uid": partner.uid, **kwargs})
