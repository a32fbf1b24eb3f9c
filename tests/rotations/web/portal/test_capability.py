"""Partners state what their systems can hold; nothing changes by that alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from identities.capabilities import Support
from partners.models import Partner
from rotations.models import Participant, Rotation
from rotations.web.portal import rate_limit
from tests.capabilities import keeps_both
from tests.rotations.company import NOW, Company
from tests.rotations.lifecycle.capability import (
    announced_rotation,
    company_with_unknown_capability,
    participant_of,
)
from tests.rotations.web.portal.conftest import Clock
from tests.rotations.web.portal.visitor import Visitor

pytestmark = pytest.mark.django_db

QUESTION = "Can your system keep our old and our new certificate for a while?"


@pytest.fixture
def company(db: None, clock: Clock) -> Company:
    return company_with_unknown_capability()


@pytest.fixture
def rotation(company: Company) -> Rotation:
    return announced_rotation(company)


def test_an_unknown_capability_is_asked_first(nora: Visitor) -> None:
    nora.open()
    assert QUESTION in nora.text
    assert "If it holds one only, both of us change at the same moment." in nora.text
    assert "Yes, it keeps both No, one at a time We don’t know" in nora.text


def test_a_known_capability_is_not_asked(rotation: Rotation, visit: Callable[..., Visitor]) -> None:
    fay = visit(participant_of(rotation, "Fabrikam"))
    fay.open()
    assert QUESTION not in fay.text
    assert "what your system can hold" not in fay.text


def test_the_answer_is_recorded_with_time_and_address(
    nora: Visitor, northwind: Participant, rotation: Rotation
) -> None:
    before = list(rotation.steps.values_list("key", "simultaneous"))
    nora.send("capability", keeps_both="yes")
    assert "Thank you, noted. Your steps stay as they are for now" in nora.text
    northwind = participant_of(rotation)
    assert (northwind.says_keeps_both, northwind.capability_stated_at) == ("yes", NOW)
    assert northwind.partner.keeps_both("own") == Support.UNKNOWN
    assert list(rotation.steps.values_list("key", "simultaneous")) == before
    entry = Entry.objects.get(verb="participant.capability_stated")
    assert (entry.actor_name, entry.address, entry.at, entry.source) == (
        "Nora (Northwind)",
        "198.51.100.7",
        NOW,
        "portal",
    )
    mail = Message.objects.get(kind="partner_response")
    assert "Northwind says that its system can keep both certificates for a while." in mail.text


def test_the_answer_can_be_changed(nora: Visitor, rotation: Rotation, clock: Clock) -> None:
    nora.send("capability", keeps_both="yes")
    assert "Done: it can keep both" in nora.text
    nora.send("capability", keeps_both="yes")
    assert Message.objects.filter(kind="partner_response").count() == 1  # no new notification
    clock.now += timedelta(minutes=1)
    nora.send("capability", keeps_both="no")
    assert participant_of(rotation).says_keeps_both == "no"
    assert Message.objects.filter(kind="partner_response").count() == 2
    nora.send("capability", keeps_both="unknown")
    assert "plan as if it could hold one only" in nora.text
    assert not participant_of(rotation).is_capability_undecided


def test_an_accepted_answer_can_be_corrected(nora: Visitor, rotation: Rotation, company: Company) -> None:
    nora.send("capability", keeps_both="no")
    Partner.objects.filter(name="Northwind").update(**keeps_both("no"))
    nora.open()
    assert QUESTION not in nora.text
    assert "Correct what your system can hold: you said it holds one at a time" in nora.text
    nora.send("capability", keeps_both="yes")
    assert participant_of(rotation).is_capability_undecided


def test_an_unknown_answer_is_an_error_of_the_form(nora: Visitor, rotation: Rotation) -> None:
    for holds in ("", "both", "SEVERAL", "several\x00", "2"):
        answer = nora.send("capability", keeps_both=holds)
        assert answer.status_code == 422, holds
        assert "Say yes or no, or that you don’t know." in nora.text
    assert participant_of(rotation).says_keeps_both == ""


def test_a_get_records_nothing(nora: Visitor, rotation: Rotation) -> None:
    answer = nora.client.get(nora.address("portal-capability"))
    assert answer.status_code == 302
    assert participant_of(rotation).says_keeps_both == ""


def test_an_outdated_page_is_refused_with_the_other_answer(nora: Visitor, rotation: Rotation) -> None:
    nora.open()
    seen = nora.page
    nora.send("capability", keeps_both="no")
    nora.page = seen
    answer = nora.send("capability", keeps_both="yes")
    assert answer.status_code == 422
    assert "Nora said of your system: holds one certificate at a time" in nora.text
    assert participant_of(rotation).says_keeps_both == "no"


def test_nothing_is_recorded_after_the_end(nora: Visitor, rotation: Rotation) -> None:
    nora.open()
    Rotation.objects.filter(pk=rotation.pk).update(state="closed", ended_at=NOW)
    nora.open()
    assert "what your system can hold" not in nora.text
    nora.client.post(nora.address("portal-capability"), {"keeps_both": "yes", "seen": "x"})
    assert participant_of(rotation).says_keeps_both == ""


def test_the_answer_counts_towards_the_rate_limit(
    nora: Visitor, rotation: Rotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limit, "MAX_REQUESTS_PER_LINK", 1)
    nora.send("capability", keeps_both="yes")
    assert nora.send("capability", keeps_both="no").status_code == 429
    assert participant_of(rotation).says_keeps_both == "yes"


def test_what_is_known_of_the_software_goes_before_the_partners_answer(nora: Visitor, rotation: Rotation) -> None:
    nora.open()
    assert "Which AS2 software do you use?" in nora.text
    nora.send("capability", software="openas2", keeps_both="yes")
    northwind = participant_of(rotation)
    assert (northwind.says_software, northwind.says_keeps_both) == ("openas2", "no")  # MDNs with one
    assert northwind.stated_capability == "OpenAS2, holds one certificate at a time"
    entry = Entry.objects.get(verb="participant.capability_stated")
    assert entry.new == {"says": "OpenAS2, holds one certificate at a time"}


def test_a_software_of_which_too_little_is_known_leaves_the_partners_answer(nora: Visitor, rotation: Rotation) -> None:
    nora.send("capability", software="cleo", keeps_both="yes")
    northwind = participant_of(rotation)
    assert northwind.says_keeps_both == "yes"
    answers = {"verifies_messages_with_two": "yes", "verifies_mdns_with_two": "yes", "decrypts_with_two": "yes"}
    assert northwind.stated_answers == {"software": "cleo", "signs_messages_per_partner": "yes", **answers}


def test_an_unknown_software_is_refused(nora: Visitor, rotation: Rotation) -> None:
    answer = nora.send("capability", software="abacus", keeps_both="yes")
    assert answer.status_code == 422
    assert "Choose your software from the list" in nora.text
    assert participant_of(rotation).says_keeps_both == ""
