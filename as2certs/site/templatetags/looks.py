"""Template tags of small components: ``{% load looks %}``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from as2certs import pki, time_format
from as2certs.accounts.models import Installation
from as2certs.site import badges
from as2certs.site.badges import MEANING_ICONS, MEANING_WORDS
from partners.models import Probe, ReceivedMessage
from rotations.exchange.partner_status import PartnerStatus
from rotations.models import Participant, Rotation, Slot, Step
from rotations.models.readiness import find_readiness
from rotations.planning.states import StepState

register = template.Library()


def page_now(context: template.Context) -> datetime:
    """Return the time for which a page is rendered: ``now`` of the view, or of the clock."""
    return context.get("now") or timezone.now()


# --- Icons and states -------------------------------------------------------------------------------------------------


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    """Render a Bootstrap icon; without a label it is decoration."""
    if label:
        return format_html('<i class="bi bi-{}" role="img" aria-label="{}"></i>', name, label)
    return format_html('<i class="bi bi-{}" aria-hidden="true"></i>', name)


@register.simple_tag
def badge(meaning: str, word: str = "", symbol: str = "") -> SafeString:
    """Render a state: its meaning (fine, soon, urgent, needs_you, neutral) as colour, icon and word."""
    return format_html(
        '<span class="status is-{}">{}{}</span>',
        meaning,
        icon(symbol or MEANING_ICONS.get(meaning, MEANING_ICONS["neutral"])),
        word or MEANING_WORDS.get(meaning, meaning),
    )


def _render_badge(state: badges.Badge) -> SafeString:
    return badge(state.meaning, state.word, state.icon)


@register.simple_tag
def meaning_icon(meaning: str) -> SafeString:
    """Render the icon of a meaning, labelled with its word."""
    return icon(MEANING_ICONS.get(meaning, MEANING_ICONS["neutral"]), MEANING_WORDS.get(meaning, ""))


@register.simple_tag(takes_context=True)
def rotation_state(context: template.Context, rotation: Rotation) -> SafeString:
    """Render a rotation's state, or that it is overdue."""
    return _render_badge(badges.rotation_badge(rotation, page_now(context)))


@register.simple_tag
def standing_badge(standing: PartnerStatus) -> SafeString:
    """Render a partner's status in a rotation."""
    return _render_badge(badges.partner_status_badge(standing))


@register.filter
def readiness(participant: Participant) -> str:
    """Return whether a partner is ready for the change that it takes part in, and if not, why."""
    return find_readiness(participant, participant.steps.all()).value


@register.simple_tag
def step_mark(step: Step) -> SafeString:
    """Render a step's state as a labelled icon."""
    state = badges.STEP_BADGES[StepState(step.state)]
    return format_html('<span class="step-mark is-{}">{}</span>', state.meaning, icon(state.icon, state.word))


@register.simple_tag
def request_state(state: str) -> SafeString:
    """Render the state of a certificate request."""
    return _render_badge(badges.REQUEST_BADGES[state])


@register.simple_tag
def probe_state(probe: Probe) -> SafeString:
    """Render the verdict on a test message, or its state."""
    return _render_badge(badges.probe_badge(probe))


@register.simple_tag
def received_state(message: ReceivedMessage) -> SafeString:
    """Render what became of a test message from a partner."""
    return _render_badge(badges.received_badge(message))


@register.simple_tag(takes_context=True)
def certificate_state(context: template.Context, certificate: Any) -> SafeString:
    """Render the validity of a certificate."""
    return _render_badge(badges.validity_badge(certificate.not_before, certificate.not_after, page_now(context)))


@register.simple_tag
def environment_tag(environment: str) -> SafeString:
    """Render the environment; TEST is highlighted."""
    if environment == "test":
        return format_html('<span class="env is-test">{}</span>', "TEST")
    return format_html('<span class="env">{}</span>', environment)


@register.simple_tag
def roles(names: Iterable[str]) -> SafeString:
    """Render roles as "sign + decrypt"."""
    return format_html('<span class="role">{}</span>', " + ".join(names))


# --- What is copied and compared --------------------------------------------------------------------------------------


def copy_button(text: str, what: str) -> SafeString:
    """Render a button that copies a text; ``what`` is its label."""
    return format_html(
        '<button type="button" class="copy" data-copy="{}" aria-label="Copy the {}" title="Copy the {}">{}</button>',
        text,
        what,
        what,
        icon("copy"),
    )


@register.filter
def breakable(digits: str) -> SafeString:
    """Return digits that may be wrapped after each colon."""
    pairs = digits.split(":")
    return format_html_join("", "{}:<wbr>", ((pair,) for pair in pairs[:-1])) + format_html("{}", pairs[-1])


@register.simple_tag
def fingerprint(sha256: str, form: str = "short", copy: bool = True) -> SafeString:
    """Render a SHA-256 fingerprint, short or whole, with a button that copies it."""
    whole = pki.format_fingerprint(sha256)
    shown = breakable(whole) if form == "whole" else pki.short_fingerprint(sha256)
    return format_html(
        '<span class="print"><span class="mono{}" title="{}">{}</span>{}</span>',
        " print-whole" if form == "whole" else "",
        f"SHA-256 {whole}",
        shown,
        copy_button(whole, "fingerprint") if copy else "",
    )


@register.simple_tag
def digits(hex_digits: str, what: str) -> SafeString:
    """Render any fingerprint whole, with a button that copies it; ``what`` is the button's label."""
    whole = pki.format_fingerprint(hex_digits)
    return format_html(
        '<span class="print"><span class="mono print-whole">{}</span>{}</span>',
        breakable(whole),
        copy_button(whole, what),
    )


@register.filter
def serial_hex(decimal: str | int) -> str:
    """Return a decimal serial number in hex with colons."""
    number = int(decimal)
    digits = f"{abs(number):x}"
    digits = digits.zfill(len(digits) + len(digits) % 2).upper()
    return ("-" if number < 0 else "") + ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))


@register.simple_tag
def serial(decimal: str | int, copy: bool = False) -> SafeString:
    """Render a serial number in hex with colons, with the decimal one as its title."""
    written = serial_hex(decimal)
    return format_html(
        '<span class="print"><span class="mono print-whole" title="decimal {}">{}</span>{}</span>',
        decimal,
        breakable(written),
        copy_button(written, "serial number") if copy else "",
    )


@register.simple_tag
def distinguished_name(openssl: str, windows: str = "", what: str = "subject") -> SafeString:
    """Render a name as openssl shows it, and as Windows does where that differs, each with a button that copies it."""
    written = [("", openssl)]
    if windows and windows != openssl:
        written = [("in openssl", openssl), ("in Windows", windows)]
    return format_html_join(
        "",
        '<div class="name-form">{}<span class="print"><span>{}</span>{}</span></div>',
        (
            (
                format_html('<span class="quiet small">{}</span> ', where) if where else "",
                text,
                copy_button(text, f"{what} as {where[3:]} shows it" if where else what),
            )
            for where, text in written
            if text
        ),
    )


@register.simple_tag
def as2_id(value: str, copy: bool = False) -> SafeString:
    """Render an AS2 ID in monospace, because its case and spaces are significant."""
    return format_html(
        '<span class="print"><span class="mono as2-id">{}</span>{}</span>',
        value,
        copy_button(value, "AS2 ID") if copy else "",
    )


@register.filter
def middle(text: object, length: int = 32) -> SafeString:
    """Shorten a long name in the middle, with the whole as its title."""
    whole = str(text)
    if len(whole) <= length:
        return format_html("{}", whole)
    tail = (length - 1) // 3
    return format_html('<span class="cut" title="{}">{}…{}</span>', whole, whole[: length - 1 - tail], whole[-tail:])


# --- Moments ----------------------------------------------------------------------------------------------------------


@register.simple_tag
def moment(at: datetime | None, form: time_format.MomentForm = "full") -> SafeString:
    """Render a moment in the reader's time zone, in one of the forms of ``format_moment``."""
    if at is None:
        return format_html('<span class="quiet">{}</span>', "–")
    return _render_time(at, time_format.format_moment(at, timezone.get_current_timezone_name(), form))


@register.simple_tag
def exact_moment(at: datetime, form: Literal["full", "offset", "short"] = "full") -> SafeString:
    """Render a moment of a window as ``moment`` does, with its seconds unless they are 0."""
    return _render_time(at, time_format.format_exact_moment(at, timezone.get_current_timezone_name(), form))


def _render_time(at: datetime, text: str, *, is_live: bool = False) -> SafeString:
    """Render a moment as ``text``, with its offset and UTC as the title; the browser updates it if ``is_live``."""
    return format_html(
        '<time datetime="{}" title="{}"{}>{}</time>',
        at.isoformat(),
        time_format.format_moment_and_utc(at, timezone.get_current_timezone_name()),
        SafeString(" data-countdown") if is_live else "",
        text,
    )


@register.simple_tag(takes_context=True)
def away(context: template.Context, at: datetime | None) -> SafeString:
    """Render the distance to a moment: "in 20 days", "3 hours ago"."""
    if at is None:
        return format_html('<span class="quiet">{}</span>', "never")
    return _render_time(at, time_format.format_distance(at, page_now(context), timezone.get_current_timezone_name()))


@register.simple_tag(takes_context=True)
def countdown(context: template.Context, at: datetime) -> SafeString:
    """Render the distance to a moment, updated by the browser."""
    text = time_format.format_distance(at, page_now(context), timezone.get_current_timezone_name())
    return _render_time(at, text, is_live=True)


@register.simple_tag(takes_context=True)
def days_left(context: template.Context, at: datetime | None, quiet: bool = False) -> SafeString:
    """Render the distance to the end of a certificate, with colour and icon of its meaning.

    With ``quiet``, for a certificate that is no longer in use, without them.
    """
    if at is None:
        return format_html('<span class="quiet">{}</span>', "–")
    now, zone = page_now(context), timezone.get_current_timezone_name()
    meaning = "neutral" if quiet else badges.expiry_meaning(at, now, zone)
    return format_html(
        '<time class="days is-{}" datetime="{}" title="{}">{}{}</time>',
        meaning,
        at.isoformat(),
        time_format.format_moment_and_utc(at, zone),
        "" if meaning in ("neutral", "fine") else icon(MEANING_ICONS[meaning], MEANING_WORDS[meaning]),
        time_format.format_distance(at, now, zone),
    )


@register.simple_tag
def window_words(holder: Rotation | Participant) -> SafeString | str:
    """Render the window of a rotation or of a participant in the zone of its agreement and in the reader's.

    Where partners change when they are ready, only its end.
    """
    when_ready = holder.is_phased if isinstance(holder, Rotation) else holder.changes_when_ready
    if isinstance(holder, Rotation):
        start, end, zone = holder.window_start, holder.window_end, holder.window_zone
    else:
        start, end, zone = holder.starts, holder.ends, holder.zone
    if start is None or end is None:
        return "no window yet"
    if when_ready:
        return format_html("until {}", exact_moment(end))
    return format_html('<time datetime="{}">{}</time>', start.isoformat(), _window_here(start, end, zone))


def _window_here(start: datetime, end: datetime, zone: str) -> str:
    return time_format.format_window_here(start, end, zone or "UTC", timezone.get_current_timezone_name())


@register.simple_tag
def slot_words(slot: Slot) -> str:
    """Return an offered time slot in its own zone and in the reader's."""
    return _window_here(slot.start, slot.end, slot.zone)


@register.simple_tag
def proposal_words(participant: Participant) -> str:
    """Return the time that a partner proposes, in the partner's zone and in the reader's."""
    start, end = participant.proposed_start, participant.proposed_end
    return _window_here(start, end, participant.proposed_zone) if start and end else ""


# --- Our name --------------------------------------------------------------------------------------------------------


@register.simple_tag(takes_context=True)
def our_name(context: template.Context) -> str:
    """Return our name for partners."""
    return str(context.get("our_name") or Installation.current().name)


@register.filter
def dialled(phone: str) -> str:
    """Return a telephone number for a tel: link, with digits and + only."""
    return re.sub(r"[^0-9+]", "", phone.partition("(0)")[0] + phone.partition("(0)")[2])


# --- The navigation bar ----------------------------------------------------------------------------------------------


@register.simple_tag(takes_context=True)
def bar_link(context: template.Context, name: str, words: str, prefixes: str = "") -> SafeString:
    """Render a link of the bar, current on pages whose URL name starts with one of the prefixes."""
    target = reverse(name)
    match = getattr(context.get("request"), "resolver_match", None)
    here = (match and match.url_name) or ""
    current = here == name or any(here.startswith(prefix) for prefix in prefixes.split())
    return format_html(
        '<li><a href="{}"{}>{}</a></li>',
        target,
        format_html(' aria-current="{}"', "page") if current else "",
        words,
    )
