"""Template tags of larger components: ``{% load parts %}``. Their templates are in templates/components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django import forms, template
from django.core.paginator import Page
from django.db import models
from django.forms import BoundField
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django_tables2.paginators import LazyPaginator

from as2certs.audit import entry_text
from as2certs.audit.models import Entry, object_reference
from as2certs.site import timeline
from as2certs.site.templatetags.looks import distinguished_name, exact_moment, fingerprint, moment, page_now, serial
from as2certs.time_format import format_moment
from identities.open_tasks import OpenTask
from identities.stations import AbstractCertificate
from partners.models import Partner
from rotations.models import Step
from rotations.planning.change import Act
from rotations.planning.windows import Window
from rotations.web.forms import windows
from rotations.web.presenters import cutover_progress
from rotations.web.presenters.partner_tasks import partner_capability_tasks

register = template.Library()

LEVEL_MEANINGS = {
    "success": "fine",
    "warning": "soon",
    "error": "urgent",
    "info": "neutral",
    "debug": "neutral",
}


@register.filter
def meaning_of_level(level: str) -> str:
    """Return the meaning of the level of a message or a finding."""
    return LEVEL_MEANINGS.get(level, "neutral")


@register.simple_tag(takes_context=True)
def may(context: template.Context, permission: str) -> bool:
    """Return whether the user has a permission; True without a name."""
    return not permission or bool(context["request"].user.has_perm(permission))


# --- Certificates -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ComparedFact:
    """A property of two certificates."""

    name: str
    old: Any
    new: Any
    differs: bool


@register.inclusion_tag("components/_certificate_compare.html")
def compare_certificates(old: AbstractCertificate | None, new: AbstractCertificate | None) -> dict[str, Any]:
    """Render two certificates side by side, with differences marked."""
    facts: list[tuple[str, str, Any]] = [
        ("Subject", "subject", lambda names: distinguished_name(*names)),
        ("Issuer", "issuer", None),
        ("Serial number", "serial", serial),
        ("Not before", "not_before", moment),
        ("Not after", "not_after", moment),
        ("Key", "key", None),
        ("Public key", "public_key_sha256", lambda value: fingerprint(value, copy=False)),
        ("Signature", "signature_algorithm", None),
        ("SHA-256", "sha256", lambda value: fingerprint(value, "whole")),
    ]
    rows = []
    for name, field, draw in facts:
        was, will = _certificate_fact(old, field), _certificate_fact(new, field)
        rows.append(
            ComparedFact(name, _render_fact(was, draw), _render_fact(will, draw), bool(old and new and was != will))
        )
    return {"rows": rows}


def _certificate_fact(certificate: AbstractCertificate | None, field: str) -> Any:
    if certificate is None:
        return None
    if field == "subject":
        return certificate.subject, certificate.subject_windows
    if field == "key":
        return f"{certificate.key_type} {certificate.key_size or ''}".strip()
    return getattr(certificate, field)


def _render_fact(value: Any, draw: Any) -> Any:
    if value is None:
        return "–"
    return draw(value) if draw else value


#: Height of a lane in pixels.
LANE_HEIGHT = 22
TONE_COUNT = 4


@register.inclusion_tag("components/_bands.html", takes_context=True)
def role_bands(context: template.Context, history: Sequence[tuple[str, Sequence[Any]]]) -> dict[str, Any]:
    """Render which certificate was in which role when.

    ``history`` comes from ``identities.role_status.assignment_history``.
    """
    now, zone = page_now(context), timezone.get_current_timezone_name()
    everything = sorted((band for _, row in history for band in row), key=lambda band: band.starts_at)
    certificates: dict[int, Any] = {band.certificate.pk: band.certificate for band in everything}
    tones = {pk: number % TONE_COUNT + 1 for number, pk in enumerate(certificates)}
    axis = timeline.history_axis([band.starts_at for band in everything], now)
    rows = []
    for role, row in history:
        placed = timeline.place_bars(axis, (_service_span(band, zone) for band in row), now)
        rows.append(
            {
                "role": role,
                "bars": [{"bar": bar, "y": bar.lane * LANE_HEIGHT, "tone": tones[bar.key]} for bar in placed],
                "height": LANE_HEIGHT * (1 + max((bar.lane for bar in placed), default=0)),
                "description": f"{role}: " + ("; ".join(bar.title for bar in placed) or "nothing so far"),
            }
        )
    legend = [
        {"tone": tones[pk], "name": certificate.short_name, "url": certificate.get_absolute_url()}
        for pk, certificate in certificates.items()
    ]
    ticks, today = timeline.month_ticks(axis, 10), axis.at(now)
    labelled = timeline.drop_crowded_labels(ticks, today)
    return {"rows": rows, "ticks": ticks, "labelled": labelled, "today": today, "legend": legend}


def _service_span(band: Any, zone: str) -> timeline.ServiceSpan:
    until = format_moment(band.ends_at, zone) if band.ends_at else "now"
    title = f"{band.certificate.short_name}: {format_moment(band.starts_at, zone)} to {until}"
    return timeline.ServiceSpan(band.certificate.pk, band.starts_at, band.ends_at, title)


CHANGE_KINDS: dict[cutover_progress.LaneKind, tuple[str, str]] = {
    "changed": ("fine", "changed"),
    "agreed": ("fine", "agreed"),
    "planned": ("neutral", "as planned"),
    "proposed": ("needs_you", "proposed by the partner"),
    "open": ("soon", "not agreed yet"),
}


@register.inclusion_tag("components/_overlap.html", takes_context=True)
def overlap_picture(context: template.Context, found: cutover_progress.Overlap) -> dict[str, Any]:
    """Draw since when each partner accepts both certificates, until when they are both good, and its moment."""
    now, zone = page_now(context), timezone.get_current_timezone_name()
    moments = [lane.moment for lane in found.lanes]
    first = min([now, found.begins or now, found.window_start, *moments])
    last = max([now, found.ends, found.window_end, *moments])
    axis = timeline.TimeAxis(first - (last - first) / 40, last + (last - first) / 30)
    rows = []
    for lane in found.lanes:
        meaning, words = CHANGE_KINDS[lane.kind]
        both = (
            f"accepts both since {format_moment(lane.both_from, zone)}"
            if lane.both_from
            else "does not accept both yet"
        )
        title = f"{format_moment(lane.moment, zone)}, {words}"
        begin = axis.at(lane.both_from) if lane.both_from else 0.0
        rows.append(
            {
                "name": lane.partner,
                "url": lane.url,
                "x": axis.at(lane.moment),
                "meaning": meaning,
                "is_open": lane.kind in ("open", "proposed"),
                "title": title,
                "both": both,
                "begin": begin,
                "width": round(axis.at(found.ends) - begin, 3) if lane.both_from else 0,
                "description": f"{lane.partner}: {both}; {title}",
            }
        )
    start, end = axis.at(found.window_start), axis.at(found.window_end)
    shown = {lane.kind for lane in found.lanes}
    return {
        "rows": rows,
        "ticks": timeline.day_ticks(axis),
        "today": axis.at(now),
        "window": {"x": start, "width": max(round(end - start, 3), timeline.MIN_BAR_WIDTH)},
        "ends": axis.at(found.ends),
        "ends_at": format_moment(found.ends, zone),
        "more": found.more,
        "legend": [
            {"meaning": meaning, "words": words, "is_open": kind in ("open", "proposed")}
            for kind, (meaning, words) in CHANGE_KINDS.items()
            if kind in shown
        ],
    }


# --- Steps -----------------------------------------------------------------------------------------------------------

EVIDENCE_TEXTS = {
    "written_and_read_back": "written, and read back",
    "sent": "sent",
    "fingerprint": "fingerprint compared",
    "word": "their word",
    "agreed_window": "window agreed",
    "test_message": "test message",
    "inbound_message": "a message of theirs",
    "time_passed": "time has passed",
    "operator": "a person’s word",
}


@register.simple_tag
def step_when(step: Step) -> SafeString | str:
    """Render when a step was done or is planned."""
    if step.done_at:
        return moment(step.done_at, "short")
    # The first steps may begin at the second of the approval, which nobody agreed on.
    begins = moment if step.act in (Act.CHECK, Act.STAGE, Act.ANNOUNCE, Act.HOLD) else exact_moment
    if step.act == Act.CUT_OVER and step.rotation.is_phased:
        if step.participant_id is None:
            return "after all partners"
        if step.is_made_when_ready and step.latest_at:
            return format_html("by {}", exact_moment(step.latest_at, "short"))
    if step.due_at:
        return begins(step.due_at, "short")
    if step.earliest_at and step.latest_at:
        return format_html("from {}<br>to {}", begins(step.earliest_at, "short"), exact_moment(step.latest_at, "short"))
    if step.latest_at:
        return format_html("by {}", exact_moment(step.latest_at, "short"))
    return format_html("from {}", begins(step.earliest_at, "short")) if step.earliest_at else ""


def _stored_text(step: Step) -> SafeString | str:
    """Return since when the AS2 system has the change, and since when it is known to use it."""
    if step.stored_at is None:
        return ""
    stored = exact_moment(step.stored_at, "short")
    if step.in_use_at is not None:
        return format_html("stored {}, in use {} (answer of the system)", stored, exact_moment(step.in_use_at, "short"))
    return format_html("stored {}; {}", stored, "not shown to be in use" if step.done_at else "not in use yet")


@register.simple_tag
def step_proof(step: Step) -> SafeString | str:
    """Render the evidence and the actor of a completed step, or the evidence that is required."""
    if step.done_at:
        parts = filter(None, [_stored_text(step), step.note, step.done_by])
        return format_html_join(" · ", "{}", ((part,) for part in parts))
    if step.is_stored_unused:
        return _stored_text(step)
    if step.state == "running":
        return "under way"
    wanted = " or ".join(EVIDENCE_TEXTS.get(name, name) for name in step.evidence)
    if step.automatic and step.state == "waiting":
        return format_html("by itself{}", f", {wanted}" if wanted else "")
    return f"shown by: {wanted}" if wanted else ""


@register.simple_tag
def capability_needs(partner: Partner) -> list[OpenTask]:
    """Return what of a partner's system is to be decided: what it said itself, what a past change has shown."""
    return [] if partner.archived_at else partner_capability_tasks(partner)


@register.simple_tag
def suggestion_value(window: Window) -> str:
    """Return the value of the button that accepts a suggested window."""
    return windows.suggestion_value(window)


# --- The trail --------------------------------------------------------------------------------------------------------

#: Kind of object in the trail → the page that shows it.
OBJECT_PAGES = {
    "identities.identity": "identity-detail",
    "identities.identitycertificate": "certificate-detail",
    "identities.as2system": "system-detail",
    "identities.certificaterequest": "request-detail",
    "partners.partner": "partner-detail",
    "partners.partnercertificate": "partner-certificate-detail",
    "rotations.rotation": "rotation-detail",
    "mail.message": "mail-detail",
    "accounts.installation": "settings",
}


@register.filter
def verb(name: str) -> str:
    """Return the text of a verb, which follows the actor's name."""
    return entry_text.verb_text(name)


@register.simple_tag
def entry_object(entry: Entry) -> SafeString:
    """Render the name of the object of an entry, as a link if it has a page."""
    page = OBJECT_PAGES.get(entry.object_kind)
    if page is None:
        return format_html("{}", entry.object_name)
    target = reverse(page, args=[] if page == "settings" else [entry.object_uid])
    return format_html('<a href="{}">{}</a>', target, entry.object_name)


@register.simple_tag
def entry_changes(entry: Entry) -> list[entry_text.ChangedValue]:
    """Return the changed values of an entry as text."""
    return entry_text.changed_values(entry, timezone.get_current_timezone_name())


@register.inclusion_tag("components/_trail.html", takes_context=True)
def trail_of(context: template.Context, obj: models.Model, limit: int = 10) -> dict[str, Any]:
    """Render the newest entries about an object, with a link to all of them."""
    kind, uid = object_reference(obj)
    entries = list(Entry.objects.about(obj)[: limit + 1])
    more = f"{reverse('audit-list')}?about={kind}:{uid}" if len(entries) > limit else ""
    return {"entries": entries[:limit], "more_url": more, "perms": context.get("perms"), "show_object": True}


# --- Lists ------------------------------------------------------------------------------------------------------------


@register.simple_tag
def filter_field(field: BoundField) -> SafeString:
    """Render a field of a filter with Bootstrap's classes."""
    widget = field.field.widget
    css = "form-select" if isinstance(widget, forms.Select) else "form-control"
    if isinstance(widget, forms.CheckboxInput):
        css = "form-check-input"
    return field.as_widget(attrs={"class": css})


@register.simple_tag
def page_words(page: Page[Any]) -> str:
    """Return which rows a page shows: "51–100 of 312", without the total of a LazyPaginator."""
    first = (page.number - 1) * page.paginator.per_page + 1
    last = first + len(page.object_list) - 1
    if isinstance(page.paginator, LazyPaginator):
        return f"{first}–{last}"
    return f"{first}–{last} of {page.paginator.count}"
