"""People at partners."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_POST

from as2certs.accounts.access import needs
from as2certs.audit.keeping import keep
from as2certs.audit.recording import Actor, record
from identities.views.common import form_page, posted
from partners.forms import ContactForm
from partners.models import Contact, Partner


@needs("partners.add_contact")
def contact_create(request: HttpRequest, uid: UUID) -> HttpResponse:
    partner = get_object_or_404(Partner.objects.active(), uid=uid)
    return _contact_form(request, ContactForm(posted(request), instance=Contact(partner=partner)), partner)


@needs("partners.change_contact")
def contact_update(request: HttpRequest, uid: UUID) -> HttpResponse:
    contact = get_object_or_404(Contact.objects.select_related("partner"), uid=uid)
    return _contact_form(request, ContactForm(posted(request), instance=contact), contact.partner)


def _contact_form(request: HttpRequest, form: ContactForm, partner: Partner) -> HttpResponse:
    if request.method == "POST" and form.is_valid():
        contact = keep(form, by=Actor.of(request), now=timezone.now(), also=(partner,))
        messages.success(request, f"{contact.name} is saved.")
        return redirect(partner)
    contact_kept = None if form.instance._state.adding else Contact.objects.get(pk=form.instance.pk)
    context = {"partner": partner, "environment": partner.environment, "contact": contact_kept}
    return form_page(request, "partners/contact_form.html", form, **context)


@require_POST
@needs("partners.delete_contact")
def contact_delete(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Forget a person: no history hangs on them, and who left wants to be forgotten."""
    contact = get_object_or_404(Contact.objects.select_related("partner"), uid=uid)
    with transaction.atomic():
        record(
            "contact.deleted", on=contact, by=Actor.of(request), now=timezone.now(), also=(contact.partner,)
        )
        contact.delete()
    messages.success(request, f"{contact.name} is no longer a contact.")
    return redirect(contact.partner)
