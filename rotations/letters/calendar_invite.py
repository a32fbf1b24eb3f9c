"""The calendar entry of a window: RFC 5545 (iCalendar) and RFC 5546 (iTIP).

Each participant has one entry with a constant UID; SEQUENCE increases with each change, so that calendars replace the
entry. Times are in UTC. The entry holds no personal link, since people forward entries.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from django.conf import settings
from icalendar import Alarm, Calendar, Event, vCalAddress, vText

from as2certs.mail.outbox import AttachedFile
from rotations.letters.context import LetterContext
from rotations.letters.texts import Fact, deadline_facts
from rotations.models import Participant

#: REQUEST and CANCEL are sent by mail; PUBLISH is for an entry that is downloaded.
CalendarMethod = Literal["REQUEST", "CANCEL", "PUBLISH"]

FILE_NAME = "change.ics"


def event_uid(participant: Participant) -> str:
    """Return the UID of a participant's entry; it depends on the installation's host name."""
    return f"{participant.uid}@{urlsplit(settings.AS2CERTS_BASE_URL).hostname or 'localhost'}"


def build_calendar_file(
    context: LetterContext, *, method: CalendarMethod, sequence: int, attendee: str = ""
) -> AttachedFile:
    """Return the entry of a participant's window as a file; the ``now`` of its context is its DTSTAMP.

    ``attendee`` is the recipient's address; a published entry has none (RFC 5546, section 3.2.1).
    """
    participant, support = context.participant, context.support
    our_name = support.organisation
    start, end = participant.starts, participant.ends
    assert start is not None  # letters about windows are about rotations that have one
    assert end is not None
    calendar = Calendar()
    calendar.add("prodid", "-//AS2 Certs//Certificate changes//EN")
    calendar.add("version", "2.0")
    calendar.add("method", method)
    event = Event()
    event.add("uid", event_uid(participant))
    event.add("sequence", sequence)
    event.add("dtstamp", context.now.replace(microsecond=0))
    when_ready = participant.changes_when_ready
    event.add("dtstart", end if when_ready else start)
    if not when_ready:  # else there is only a last moment: without an end, the entry lasts no time
        event.add("dtend", end)
    event.add("summary", _summary(participant, our_name))
    event.add("description", _description(context, cancelled=method == "CANCEL"))
    event.add("status", "CANCELLED" if method == "CANCEL" else _status(context))
    event.add("transp", "TRANSPARENT")  # most of it is automatic, so it does not make anybody busy
    if support.email:
        organizer = vCalAddress(f"mailto:{support.email}")
        organizer.params["CN"] = vText(our_name)
        event["organizer"] = organizer
    if attendee and support.email:
        guest = vCalAddress(f"mailto:{attendee}")
        guest.params["ROLE"] = vText("REQ-PARTICIPANT")
        guest.params["PARTSTAT"] = vText("NEEDS-ACTION")
        guest.params["RSVP"] = vText("FALSE")
        event.add("attendee", guest, encode=False)
    if method != "CANCEL":
        alarm = Alarm()
        alarm.add("action", "DISPLAY")
        alarm.add("description", _summary(participant, our_name))
        alarm["trigger"] = "-P1D" if when_ready else "-PT1H"
        event.add_component(alarm)
    calendar.add_component(event)
    return AttachedFile(FILE_NAME, f"text/calendar; method={method}", calendar.to_ical())


def _status(context: LetterContext) -> Literal["CONFIRMED", "TENTATIVE"]:
    return "TENTATIVE" if context.next_action.must_keep_old else "CONFIRMED"


def _summary(participant: Participant, our_name: str) -> str:
    rotation = participant.rotation
    if participant.changes_when_ready:
        return f"Last moment to add the new AS2 certificate of {our_name} ({rotation.holder.as2_id})"
    owner = our_name if rotation.side == "own" else str(rotation.holder)
    return f"AS2 certificate of {owner} changes ({rotation.holder.as2_id})"


def _description(context: LetterContext, *, cancelled: bool) -> str:
    rotation, support = context.rotation, context.support
    moments = [Fact("The change", context.participant.format_window(context.zone))]
    ready_by = context.participant.ready_by
    if ready_by is not None and context.now < ready_by and not rotation.is_emergency:
        moments = [*deadline_facts(context), *moments]
    lines = [
        f"Certificate of AS2 ID {rotation.holder.as2_id}, agreed with {support.organisation}.",
        f"Old: {rotation.old.short_name}" if rotation.old else "",
        f"New: {rotation.new.short_name}" if rotation.new else "",
        *([] if cancelled else [f"{moment.label}: {moment.value}" for moment in moments]),
        "Please wait: keep the old certificate until you hear from us."
        if context.next_action.must_keep_old and not cancelled
        else "",
        f"Questions: {support.summary}" if support.summary else "",
        "Accepting this entry is no answer to us: please use the link in our mail.",
    ]
    return "\n".join(line for line in lines if line)
