"""The small parts of pages: ``{% load looks %}``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from as2certs import pki, time_format
from as2certs.accounts.models import Installation
from as2certs.site import badges
from as2certs.site.badges import MEANING_ICONS, MEANING_WORDS
from rotations.exchange.partner_status import PartnerStatus
from rotations.models import Participant, Rotation, Slot, Step
from rotations.planning.states import StepState

register = template.Library()


def page_now(context: template.Context) -> datetime:
    """Return the moment for which the page was made: the view's ``now``, or the clock's."""
    return context.get("now") or timezone.now()


# --- Icons and states -------------------------------------------------------------------------------------------------


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    """Draw one of Bootstrap's icons; with a label it is read out, without one it is decoration."""
    if label:
        return format_html('<i class="bi bi-{}" role="img" aria-label="{}"></i>', name, label)
    return format_html('<i class="bi bi-{}" aria-hidden="true"></i>', name)


@register.simple_tag
def badge(meaning: str, word: str = "", symbol: str = "") -> SafeString:
    """Draw a state: its meaning (fine, soon, urgent, needs_you, neutral) as colour, icon and word."""
    return format_html(
        '<span class="status is-{}">{}{}</span>',
        meaning,
        icon(symbol or MEANING_ICONS.get(meaning, MEANING_ICONS["neutral"])),
        word or MEANING_WORDS.get(meaning, meaning),
    )


def _render_badge(sign: badges.Badge) -> SafeString:
    return badge(sign.meaning, sign.word, sign.icon)


@register.simple_tag
def meaning_icon(meaning: str) -> SafeString:
    """Draw the icon of a meaning, with its word for those who don't see it."""
    return icon(MEANING_ICONS.get(meaning, MEANING_ICONS["neutral"]), MEANING_WORDS.get(meaning, ""))


@register.simple_tag(takes_context=True)
def rotation_state(context: template.Context, rotation: Rotation) -> SafeString:
    """Draw a rotation's state; overdue wins."""
    return _render_badge(badges.rotation_badge(rotation, page_now(context)))


@register.simple_tag
def standing_badge(standing: PartnerStatus) -> SafeString:
    """Draw what a partner's part in a rotation has come to."""
    return _render_badge(badges.partner_status_badge(standing))


@register.simple_tag
def step_mark(step: Step) -> SafeString:
    """Draw a step's state as its icon only, read out as a word."""
    sign = badges.STEP_BADGES[StepState(step.state)]
    return format_html('<span class="step-mark is-{}">{}</span>', sign.meaning, icon(sign.icon, sign.word))


@register.simple_tag
def request_state(state: str) -> SafeString:
    """Draw how far the generation of a key, or a waiting CSR, has come."""
    return _render_badge(badges.REQUEST_BADGES[state])


@register.simple_tag(takes_context=True)
def certificate_state(context: template.Context, certificate: Any) -> SafeString:
    """Draw whether a certificate is valid, and for how long still."""
    return _render_badge(
        badges.validity_badge(certificate.not_before, certificate.not_after, page_now(context))
    )


@register.simple_tag
def environment_tag(environment: str) -> SafeString:
    """Draw "production", or a TEST that can't be overlooked."""
    if environment == "test":
        return format_html('<span class="env is-test">{}</span>', "TEST")
    return format_html('<span class="env">{}</span>', environment)


@register.simple_tag
def roles(names: Iterable[str]) -> SafeString:
    """Write roles as "sign + decrypt"."""
    return format_html('<span class="role">{}</span>', " + ".join(names))


# --- What is copied and compared --------------------------------------------------------------------------------------


def copy_button(text: str, what: str) -> SafeString:
    """Draw a button that copies a text; ``what`` names it for those who don't see it."""
    return format_html(
        '<button type="button" class="copy" data-copy="{}" aria-label="Copy the {}" title="Copy the {}">{}</button>',
        text,
        what,
        what,
        icon("copy"),
    )


@register.filter
def breakable(digits: str) -> SafeString:
    """Let a line of digits break behind its colons, and nowhere else."""
    pairs = digits.split(":")
    return format_html_join("", "{}:<wbr>", ((pair,) for pair in pairs[:-1])) + format_html("{}", pairs[-1])


@register.simple_tag
def fingerprint(sha256: str, form: str = "short", copy: bool = True) -> SafeString:
    """Write a SHA-256 fingerprint, short with the whole on hover, or whole; with a button that copies the whole."""
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
    """Write any fingerprint whole, with a button that copies it; ``what`` names it, such as "SHA-1 of the new one"."""
    whole = pki.format_fingerprint(hex_digits)
    return format_html(
        '<span class="print"><span class="mono print-whole">{}</span>{}</span>',
        breakable(whole),
        copy_button(whole, what),
    )


@register.filter
def serial_hex(decimal: str | int) -> str:
    """Write a serial number, given as decimal, in hex with colons."""
    number = int(decimal)
    digits = f"{abs(number):x}"
    digits = digits.zfill(len(digits) + len(digits) % 2).upper()
    return ("-" if number < 0 else "") + ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))


@register.simple_tag
def serial(decimal: str | int, copy: bool = False) -> SafeString:
    """Write a serial number in hex with colons, decimal on hover."""
    written = serial_hex(decimal)
    return format_html(
        '<span class="print"><span class="mono print-whole" title="decimal {}">{}</span>{}</span>',
        decimal,
        breakable(written),
        copy_button(written, "serial number") if copy else "",
    )


@register.simple_tag
def as2_id(value: str, copy: bool = False) -> SafeString:
    """Write an AS2 ID: spaces inside it and its case matter, so it is set in monospace."""
    return format_html(
        '<span class="print"><span class="mono as2-id">{}</span>{}</span>',
        value,
        copy_button(value, "AS2 ID") if copy else "",
    )


@register.filter
def middle(text: object, length: int = 32) -> SafeString:
    """Cut a long name in the middle, with the whole on hover: beginnings and ends tell names apart."""
    whole = str(text)
    if len(whole) <= length:
        return format_html("{}", whole)
    tail = (length - 1) // 3
    return format_html(
        '<span class="cut" title="{}">{}…{}</span>', whole, whole[: length - 1 - tail], whole[-tail:]
    )


# --- Moments ----------------------------------------------------------------------------------------------------------


@register.simple_tag
def moment(at: datetime | None, form: time_format.MomentForm = "full") -> SafeString:
    """Write a moment in the reader's zone, with offset and UTC on hover. Forms: day, time, short, full, exact."""
    if at is None:
        return format_html('<span class="quiet">{}</span>', "–")
    return _render_time(at, time_format.format_moment(at, timezone.get_current_timezone_name(), form))


def _render_time(at: datetime, shown: str, *, kept_up_to_date: bool = False) -> SafeString:
    """Write a moment as ``shown``, with its offset and UTC on hover."""
    return format_html(
        '<time datetime="{}" title="{}"{}>{}</time>',
        at.isoformat(),
        time_format.format_moment_and_utc(at, timezone.get_current_timezone_name()),
        SafeString(" data-countdown") if kept_up_to_date else "",
        shown,
    )


@register.simple_tag(takes_context=True)
def away(context: template.Context, at: datetime | None) -> SafeString:
    """Write how far a moment is away: "in 20 days", "3 hours ago"; the moment itself on hover."""
    if at is None:
        return format_html('<span class="quiet">{}</span>', "never")
    return _render_time(
        at, time_format.format_distance(at, page_now(context), timezone.get_current_timezone_name())
    )


@register.simple_tag(takes_context=True)
def countdown(context: template.Context, at: datetime) -> SafeString:
    """Write how far a moment is away, kept up to date while the page is open."""
    shown = time_format.format_distance(at, page_now(context), timezone.get_current_timezone_name())
    return _render_time(at, shown, kept_up_to_date=True)


@register.simple_tag(takes_context=True)
def days_left(context: template.Context, at: datetime | None, quiet: bool = False) -> SafeString:
    """Write until when: "in 20 days" in the colour and with the icon of what that means for a certificate.

    With ``quiet`` it has no meaning: for a certificate that is no longer in use.
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
def window_words(whose: Rotation | Participant) -> SafeString | str:
    """Write the window of a rotation or of one participant in the zone of its agreement, and on the reader's clock."""
    if isinstance(whose, Rotation):
        start, end, zone = whose.window_start, whose.window_end, whose.window_zone
    else:
        start, end, zone = whose.starts, whose.ends, whose.zone
    if start is None or end is None:
        return "no window yet"
    told = time_format.format_window_here(start, end, zone or "UTC", timezone.get_current_timezone_name())
    return format_html('<time datetime="{}">{}</time>', start.isoformat(), told)


@register.simple_tag
def slot_words(slot: Slot) -> str:
    """Write an offered moment in the zone in which it was offered, with its start on the reader's clock."""
    return time_format.format_window_here(
        slot.start, slot.end, slot.zone, timezone.get_current_timezone_name()
    )


@register.simple_tag
def proposal_words(participant: Participant) -> str:
    """Write the time that a partner proposes in its zone, with its start on the reader's clock."""
    start, end = participant.proposed_start, participant.proposed_end
    if start is None or end is None:
        return ""
    zone = participant.proposed_zone or "UTC"
    return time_format.format_window_here(start, end, zone, timezone.get_current_timezone_name())


# --- Us, as partners know us ------------------------------------------------------------------------------------------


@register.simple_tag(takes_context=True)
def our_name(context: template.Context) -> str:
    """Return the name under which partners know us."""
    return str(context.get("our_name") or Installation.current().name)


@register.filter
def dialled(phone: str) -> str:
    """Write a telephone number as a link to it has it: without what people put between the digits."""
    return re.sub(r"[^0-9+]", "", phone.partition("(0)")[0] + phone.partition("(0)")[2])


# --- The bar ----------------------------------------------------------------------------------------------------------


@register.simple_tag(takes_context=True)
def bar_link(context: template.Context, name: str, words: str, prefixes: str = "") -> SafeString:
    """Draw a link of the bar; it is the current one on pages whose URL name starts with one of the prefixes."""
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
