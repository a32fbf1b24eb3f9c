"""The calendar entry of a window: RFC 5545 (iCalendar) and RFC 5546 (how entries are sent, changed and called off).

One entry per participant with a UID that never changes; each change counts SEQUENCE up, so calendars replace what
they have. Times are in UTC, which every calendar shows on its reader's clock. It holds no personal link: people pass
entries on.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from urllib.parse import urlsplit

from django.conf import settings
from icalendar import Alarm, Calendar, Event, vCalAddress, vText

from as2certs.mail.outbox import AttachedFile
from rotations.letters.contacts import SupportContact
from rotations.models import Participant, Rotation

#: REQUEST and CANCEL go by mail to somebody; PUBLISH is an entry that somebody takes for themselves.
CalendarMethod = Literal["REQUEST", "CANCEL", "PUBLISH"]

#: What the file is called.
FILE_NAME = "change.ics"


def event_uid(participant: Participant) -> str:
    """Return the UID of a participant's entry, for as long as the installation keeps its address."""
    return f"{participant.uid}@{urlsplit(settings.AS2CERTS_BASE_URL).hostname or 'localhost'}"


def build_calendar_file(
    participant: Participant,
    *,
    method: CalendarMethod,
    sequence: int,
    our_name: str,
    desk: SupportContact,
    attendee: str = "",
    now: datetime,
) -> AttachedFile:
    """Return the entry of a participant's window as a file; ``now`` (UTC) is its stamp.

    ``attendee`` is the reader's address; a published entry has none (RFC 5546, section 3.2.1).
    """
    rotation = participant.rotation
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
    event.add("dtstamp", now.replace(microsecond=0))
    event.add("dtstart", start)
    event.add("dtend", end)
    event.add("summary", _summary(rotation, our_name))
    event.add("description", _description(rotation, our_name, desk))
    event.add("status", "CANCELLED" if method == "CANCEL" else "CONFIRMED")
    event.add("transp", "TRANSPARENT")  # it blocks nobody's day: most of it happens by itself
    if desk.email:
        organizer = vCalAddress(f"mailto:{desk.email}")
        organizer.params["CN"] = vText(our_name)
        event["organizer"] = organizer
    if attendee and desk.email:
        guest = vCalAddress(f"mailto:{attendee}")
        guest.params["ROLE"] = vText("REQ-PARTICIPANT")
        guest.params["PARTSTAT"] = vText("NEEDS-ACTION")
        guest.params["RSVP"] = vText("FALSE")
        event.add("attendee", guest, encode=False)
    if method != "CANCEL":
        alarm = Alarm()
        alarm.add("action", "DISPLAY")
        alarm.add("description", _summary(rotation, our_name))
        alarm["trigger"] = "-PT1H"
        event.add_component(alarm)
    calendar.add_component(event)
    return AttachedFile(FILE_NAME, f"text/calendar; method={method}", calendar.to_ical())


def _summary(rotation: Rotation, our_name: str) -> str:
    whose = our_name if rotation.side == "own" else str(rotation.holder)
    return f"AS2 certificate of {whose} changes ({rotation.holder.as2_id})"


def _description(rotation: Rotation, our_name: str, desk: SupportContact) -> str:
    lines = [
        f"Certificate of AS2 ID {rotation.holder.as2_id}, agreed with {our_name}.",
        f"Old: {rotation.old.short_name}" if rotation.old else "",
        f"New: {rotation.new.short_name}" if rotation.new else "",
        f"Questions: {desk.told}" if desk.told else "",
        "Accepting this entry is no answer to us: please use the link in our mail.",
    ]
    return "\n".join(line for line in lines if line)
