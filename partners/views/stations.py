"""Partners: list, page, form, archive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from as2certs.accounts.access import needs, person
from as2certs.clock import database_now
from identities.archiving import as2_id_taken
from identities.list_views import listed
from identities.models import Identity
from identities.open_tasks import Need, most_pressing_first, role_needs, rotation_needs
from identities.role_status import RoleStanding, history, running_rotations, serving, standings
from identities.views.common import archived, form_page, posted, restored, saved, subscribed, update_page
from partners import signing_choices
from partners.archiving import partner_in_use
from partners.filters import PartnerFilter
from partners.forms import PartnerForm
from partners.models import Partner, PartnerService
from partners.tables import PartnerTable


@needs("partners.view_partner")
def partner_list(request: HttpRequest) -> HttpResponse:
    connected_with = request.GET.get("identity", "")
    return listed(
        request,
        "partners/partner_list.html",
        filters=PartnerFilter,
        table=PartnerTable,
        rows=Partner.objects.prefetch_related(serving(PartnerService)),
        any=Partner.objects.exists(),
        identity=_identity(connected_with) if connected_with else None,
    )


def _identity(uid: str) -> Identity | None:
    try:
        return Identity.objects.filter(uid=UUID(uid)).first()
    except ValueError:
        return None


@needs("partners.add_partner")
def partner_create(request: HttpRequest) -> HttpResponse:
    initial = {"owners": [person(request).pk], "time_zone": person(request).time_zone}
    form = PartnerForm(posted(request), initial=initial)
    done = saved(request, form, "{} is set up. Next: connect it, and take in its certificate.")
    return done or form_page(request, "partners/partner_form.html", form)


@needs("partners.change_partner")
def partner_update(request: HttpRequest, uid: UUID) -> HttpResponse:
    partner = get_object_or_404(Partner, uid=uid)
    return update_page(request, partner, PartnerForm, "partners/partner_form.html")


@needs("partners.view_partner")
def partner_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    found = Partner.objects.select_related("rehearsal_partner").prefetch_related(
        serving(PartnerService), "owners", "contacts"
    )
    partner = get_object_or_404(found, uid=uid)
    now = database_now()
    rotations = list(running_rotations(partner, "partner")[:20])
    roles = standings(partner, partner.serving_now, rotations)
    partnerships = list(
        partner.partnerships.active().filter(identity__archived_at=None).select_related("identity")
    )
    needs_somebody = partner_needs(partner, roles, rotations, connected=bool(partnerships), now=now)
    taking_part = partner.participations.filter(rotation__ended_at=None, removed_reason="")
    context: dict[str, Any] = {
        "partner": partner,
        "environment": partner.environment,
        "contacts": [contact for contact in partner.contacts.all() if not contact.suggested_by],
        "named": [contact for contact in partner.contacts.all() if contact.suggested_by],
        "standings": roles,
        "needs": [] if partner.archived_at else needs_somebody,
        "rotations": rotations,
        "participations": taking_part.select_related("rotation__identity").filter(rotation__partner=None)[
            :10
        ],
        "partnerships": partnerships,
        "signed": [
            (partnership, signing_choices.history(partnership))
            for partnership in signing_choices.ever_apart(partner)
        ],
        "handed_in": partner.handed_in.select_related("certificate").defer(
            "certificate__der", "certificate__chain_pem"
        )[:5],
        "certificates": partner.certificates.light().order_by("-not_after")[:10],
        "counterpart": partner.counterpart,
        "rehearsed_here": partner.rehearsed_here,
        "history": history(partner),
        "subscribed": partner.subscribers.filter(pk=person(request).pk).exists(),
        "there": f"{now.astimezone(ZoneInfo(partner.time_zone)):%a %H:%M}",
        "now": now,
    }
    return render(request, "partners/partner_detail.html", context)


def partner_needs(
    partner: Partner,
    roles: Sequence[RoleStanding],
    rotations: Sequence[Any],
    *,
    connected: bool,
    now: datetime,
) -> list[Need]:
    """Return what about a partner needs somebody, the most pressing first."""
    needed = [*role_needs("partner", partner, roles, now=now), *rotation_needs(rotations, now=now)]
    needed += [*_handed_in(partner), *_setting_up(partner, connected)]
    return most_pressing_first(needed)


def _handed_in(partner: Partner) -> Iterator[Need]:
    for handed in partner.handed_in.pending().order_by("id"):
        yield Need(
            "needs_you",
            f"A new certificate came from {handed.said_by}, and nobody has compared its fingerprint yet.",
            "Compare it",
            handed.get_absolute_url(),
            "rotations.change_rotation",
        )


def _setting_up(partner: Partner, connected: bool) -> Iterator[Need]:
    if not connected:
        yield Need(
            "needs_you",
            "It is connected with none of our identities.",
            "Connect it",
            f"{reverse('partnership-create')}?partner={partner.uid}",
            "partners.add_partnership",
        )
    known = [contact for contact in partner.contacts.all() if not contact.suggested_by]
    named = [contact for contact in partner.contacts.all() if contact.suggested_by]
    if named:
        who = named[0].name if len(named) == 1 else f"{len(named)} people"
        yield Need("needs_you", f"Named on their page as a contact: {who}.", "Take on or dismiss", "#named")
    if bounced := [contact for contact in known if contact.bounced_at]:
        who = ", ".join(contact.name for contact in bounced[:3])
        yield Need("soon", f"Mail comes back from {who}.", "See the contacts", "#contacts")
    if not any(contact.email and contact.told_new_certificates for contact in known):
        yield Need(
            "soon",
            "Nobody there is told of our new certificates by mail.",
            "Add a contact",
            reverse("contact-create", args=[partner.uid]),
            "partners.add_contact",
        )


@require_POST
@needs("partners.change_partner")
def partner_archive(request: HttpRequest, uid: UUID) -> HttpResponse:
    return archived(request, get_object_or_404(Partner, uid=uid), unless=partner_in_use)


@require_POST
@needs("partners.change_partner")
def partner_restore(request: HttpRequest, uid: UUID) -> HttpResponse:
    return restored(request, get_object_or_404(Partner, uid=uid), unless=as2_id_taken)


@require_POST
@needs("partners.view_partner")
def partner_subscribe(request: HttpRequest, uid: UUID) -> HttpResponse:
    return subscribed(request, get_object_or_404(Partner, uid=uid))
