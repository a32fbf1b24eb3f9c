"""Forms and actions for contacts at partners."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from as2certs.accounts.access import require_permissions
from as2certs.audit.form_saving import save_form
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.clock import database_now
from identities.forms import AuditReasonForm
from identities.views.common import ObjectView, post_data, render_form
from partners import contacts
from partners.errors import ContactRefused
from partners.forms import ContactConfirmForm, ContactForm
from partners.models import Contact, Partner


@require_permissions("partners.add_contact")
def contact_create(request: HttpRequest, uid: UUID) -> HttpResponse:
    partner = get_object_or_404(Partner.objects.active(), uid=uid)
    return _edit_contact(request, ContactForm(post_data(request), instance=Contact(partner=partner)), partner)


@require_permissions("partners.change_contact")
def contact_update(request: HttpRequest, uid: UUID) -> HttpResponse:
    contact = _get_contact(uid)
    return _edit_contact(request, ContactForm(post_data(request), instance=contact), contact.partner)


def _get_contact(uid: UUID) -> Contact:
    return get_object_or_404(Contact.objects.select_related("partner"), uid=uid)


def _edit_contact(request: HttpRequest, form: ContactForm, partner: Partner) -> HttpResponse:
    if request.method == "POST" and form.is_valid():
        contact = save_form(form, by=Actor.of(request), now=database_now(), also=(partner,))
        messages.success(request, f"{contact.name} is saved.")
        return redirect(partner)
    stored = None if form.instance._state.adding else Contact.objects.get(pk=form.instance.pk)
    context = {"partner": partner, "environment": partner.environment, "contact": stored}
    return render_form(request, "partners/contact_form.html", form, **context)


@require_POST
@require_permissions("partners.delete_contact")
def contact_delete(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Delete a contact: no history refers to contacts, and personal data of people who left is not kept."""
    contact = _get_contact(uid)
    with transaction.atomic():
        event = AuditEvent("contact.deleted", contact, also=(contact.partner,))
        record(event, by=Actor.of(request), now=database_now())
        contact.delete()
    messages.success(request, f"{contact.name} is no longer a contact.")
    return redirect(contact.partner)


@require_permissions("partners.change_contact")
def contact_confirm(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Record how a contact was confirmed; automatic acceptance of certificates depends on it."""
    contact = _get_contact(uid)
    form = ContactConfirmForm(post_data(request))
    if request.method == "POST" and form.is_valid():
        try:
            contacts.confirm(contact, how=form.cleaned_data["how"], by=Actor.of(request), now=database_now())
        except ContactRefused as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, f"{contact.name} is confirmed.")
            return redirect(contact.partner)
    context = {
        "partner": contact.partner,
        "environment": contact.partner.environment,
        "contact": contact,
        "doubt": AuditReasonForm(),
    }
    return render_form(request, "partners/contact_confirm.html", form, **context)


@require_POST
@require_permissions("partners.change_contact")
def contact_doubt(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Withdraw the confirmation of a contact."""
    contact, form = _get_contact(uid), AuditReasonForm(request.POST)
    if not form.is_valid():
        messages.error(request, " ".join(map(str, form.errors["reason"])))
        return redirect("contact-confirm", uid=uid)

    try:
        contacts.withdraw_confirmation(
            contact, reason=form.cleaned_data["reason"], by=Actor.of(request), now=database_now()
        )
    except ContactRefused as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"{contact.name} is no longer confirmed.")
    return redirect(contact.partner)


def _action_view(action: Callable[..., None], message: str) -> ObjectView:
    """Return the view that carries out an action with a contact; ``message`` is shown if it succeeds."""

    @require_POST
    @require_permissions("partners.change_contact")
    def view(request: HttpRequest, uid: UUID) -> HttpResponse:
        contact = _get_contact(uid)
        try:
            action(contact, by=Actor.of(request), now=database_now())
        except ContactRefused as error:
            messages.error(request, str(error))
        else:
            messages.success(request, message.format(contact))
        return redirect(contact.partner)

    return view


contact_take_on = _action_view(contacts.accept_suggestion, "{0.name} is a contact now. Nobody has confirmed them yet.")
contact_dismiss = _action_view(contacts.dismiss_suggestion, "{0.name} is dismissed.")
contact_works_again = _action_view(contacts.clear_bounce, "Mail goes to {0.email} again.")
