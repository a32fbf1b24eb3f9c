"""Partners' answers on their page, and the errors of invalid ones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from as2certs import pki
from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from partners.models import Contact
from rotations.exchange.time_slots import offer_slots
from rotations.execution import confirmations
from rotations.models import Participant, Rotation
from tests.certificates import cert_der, cert_pem, key_pem, make_pair, p12
from tests.rotations.company import NOW, Company, window
from tests.rotations.pages import STARTS
from tests.rotations.web.portal.conftest import Clock
from tests.rotations.web.portal.visitor import Visitor
from tests.samples import sample
from tests.test_secrets import betrayed, traces

pytestmark = pytest.mark.django_db

Visit = Callable[..., Visitor]
AFTER = STARTS + timedelta(hours=2)


def again(participant: Participant) -> Participant:
    return Participant.objects.select_related("rotation").get(pk=participant.pk)


def said_last() -> Entry:
    """Return the last audit entry, which came from the portal."""
    entry = Entry.objects.filter(source="portal").first()
    assert entry is not None
    return entry


def nothing_was_said() -> bool:
    return (
        not Entry.objects.filter(source="portal")
        .exclude(verb__in=["participant.fetched", "participant.opened"])
        .exists()
    )


def file(content: bytes, name: str = "cert.cer") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content, "application/octet-stream")


# Installation

SPELLINGS: list[Callable[[str], str]] = [
    str,
    str.upper,
    pki.format_fingerprint,
    lambda digits: f"SHA256 Fingerprint={pki.format_fingerprint(digits)}\n",
    lambda digits: f"{digits[:32]}\n{digits[32:]}",
    lambda digits: "-".join(digits[i : i + 4] for i in range(0, 64, 4)),
    lambda digits: " ".join(digits[i : i + 2] for i in range(0, 64, 2)),
]


@pytest.mark.parametrize("spell", sample(SPELLINGS, 2))
def test_a_pasted_fingerprint_is_proof_in_any_spelling(
    nora: Visitor, northwind: Participant, company: Company, spell: Callable[[str], str]
) -> None:
    nora.send("installed", how="proof", fingerprint=spell(company.new.sha256))
    northwind = again(northwind)
    assert (northwind.evidence, northwind.fingerprint) == ("strong", company.new.sha256)
    assert northwind.confirmed_with == "Nora North"
    assert northwind.steps.get(act="install").state == "done"
    assert "Thank you. The fingerprint is that of the new certificate, so it is the right one." in nora.text
    entry = Entry.objects.get(verb="participant.confirmed")
    assert (entry.actor_name, entry.address, entry.at) == ("Nora North (Northwind)", "198.51.100.7", NOW)
    assert entry.new["evidence"] == "strong"


def test_sha_1_is_accepted_too(nora: Visitor, northwind: Participant, company: Company) -> None:
    nora.send("installed", how="proof", fingerprint=pki.format_fingerprint(company.new.sha1))
    assert again(northwind).evidence == "strong"


def test_a_statement_without_proof_is_weak(nora: Visitor, northwind: Participant) -> None:
    nora.send("installed", how="word")
    assert again(northwind).evidence == "weak"
    assert "Thank you, noted as you say. If your system shows the fingerprint, paste it too" in nora.text


def test_a_statement_never_weakens_proof(nora: Visitor, northwind: Participant, company: Company) -> None:
    nora.send("installed", how="proof", fingerprint=company.new.sha256)
    nora.send("installed", how="word")
    assert again(northwind).evidence == "strong"


def test_an_empty_form_is_no_proof(nora: Visitor, northwind: Participant) -> None:
    answer = nora.send("installed", how="proof")
    assert answer.status_code == 422
    assert "Paste the fingerprint, or send the certificate." in nora.text
    assert nothing_was_said()
    assert again(northwind).evidence == ""


def test_the_old_fingerprint_is_refused_as_such(nora: Visitor, northwind: Participant, company: Company) -> None:
    pasted = pki.format_fingerprint(company.old.sha256)
    nora.send("installed", how="proof", fingerprint=pasted)
    assert "That is the old certificate, the one that you had already." in nora.text
    assert f"{pasted}</textarea>" in nora.page.content.decode()
    assert nothing_was_said()


def test_the_fingerprint_of_another_certificate_is_refused_as_such(nora: Visitor) -> None:
    nora.send("installed", how="proof", fingerprint="ab" * 32)
    assert "That is another certificate, neither the old nor the new one." in nora.text
    assert nothing_was_said()


def test_an_invalid_fingerprint_is_refused(nora: Visitor) -> None:
    for pasted, expected in [
        ("not seen", "only the digits 0 to 9 and the letters A to F"),
        ("ab" * 30, "some are missing"),
        ("ab" * 16, "as long as a MD5 fingerprint"),
    ]:
        assert nora.send("installed", how="proof", fingerprint=pasted).status_code == 422, pasted
        assert expected in nora.text
        assert f">\n{pasted}</textarea>" in nora.page.content.decode()


def forms_of(certificate: Any) -> list[bytes]:
    return [cert_der(certificate), cert_pem(certificate), pki.to_pkcs7(certificate)]


@pytest.mark.parametrize("form", [0, 1, 2], ids=["DER", "PEM", "PKCS#7"])
def test_the_exported_certificate_is_proof(nora: Visitor, northwind: Participant, company: Company, form: int) -> None:
    nora.send("installed", how="proof", certificate_file=file(forms_of(company.new.certificate)[form]))
    assert again(northwind).evidence == "strong"
    assert again(northwind).fingerprint == company.new.sha256


def test_the_pasted_certificate_is_proof(nora: Visitor, northwind: Participant, company: Company) -> None:
    mangled = cert_pem(company.new.certificate).decode().replace("-----", "———")
    nora.send("installed", how="proof", fingerprint=mangled)
    assert again(northwind).evidence == "strong"


def test_a_file_with_the_old_and_the_new_certificate_is_no_proof(nora: Visitor, company: Company) -> None:
    nora.send(
        "installed", how="proof", certificate_file=file(cert_pem(company.old.certificate, company.new.certificate))
    )
    assert "send only the new one" in str(nora.page.context["forms"]["installed"].errors["certificate_file"])


def test_the_exported_old_certificate_is_refused_as_such(nora: Visitor, company: Company) -> None:
    nora.send("installed", how="proof", certificate_file=file(cert_der(company.old.certificate)))
    assert "That is the old certificate" in nora.text
    assert nora.page.context["forms"]["installed"].errors["certificate_file"]


@pytest.mark.parametrize("how", ["PEM beside it", "PKCS#12", "PEM pasted", "in the note", "cut off"])
def test_a_private_key_is_discarded_with_advice(
    nora: Visitor, northwind: Participant, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    leaf, key = pair = make_pair("NORTHWIND")
    secret = key_pem(key)
    ways: dict[str, dict[str, Any]] = {
        "PEM beside it": {"certificate_file": file(cert_pem(leaf) + secret)},
        "PKCS#12": {"certificate_file": file(p12(pair), "keys.p12")},
        "PEM pasted": {"fingerprint": (cert_pem(leaf) + secret).decode()},
        "in the note": {"note": f"Here it is: {secret.decode()}"},
        "cut off": {"fingerprint": secret.decode()[:900]},
    }
    answer = nora.send("installed", how="word", **ways[how])
    assert answer.status_code == 422
    assert "What you sent holds a private key. We threw it away at once" in nora.text
    assert "please replace that key" in nora.text
    assert not betrayed(answer.content, traces(key))
    assert not betrayed(caplog.text.encode(), traces(key))
    assert nothing_was_said()
    assert again(northwind).note == ""


def test_a_private_key_in_any_field_is_neither_stored_nor_shown(nora: Visitor) -> None:
    _, key = make_pair("NORTHWIND")
    secret = key_pem(key).decode()
    for name, field in (
        ("decline", "reason"),
        ("report", "note"),
        ("propose", "note"),
        ("colleague", "name"),
    ):
        answer = nora.send(name, **{field: secret})
        assert "holds a private key" in nora.text, name
        assert not betrayed(answer.content, traces(key))
    assert nothing_was_said()


def test_an_invalid_file_is_an_error_message(nora: Visitor) -> None:
    nora.send("installed", how="proof", certificate_file=file(b"%PDF-1.7", "cert.pdf"))
    assert "The file is a PDF document, not a certificate" in nora.text


def test_a_note_is_stored_and_an_empty_one_keeps_it(nora: Visitor, northwind: Participant, company: Company) -> None:
    confirmations.confirm_installation(
        northwind, confirmations.PartnerAnswer("", by=company.by, now=NOW, note="Call at night")
    )
    nora.send("installed", how="word", note="")
    assert again(northwind).note == "Call at night"
    nora.send("installed", how="word", note="Installed on both nodes")
    assert again(northwind).note == "Installed on both nodes"
    assert said_last().reason == "Installed on both nodes"


# Time


def test_agreeing_settles_the_time(one_slot: Rotation, visit: Visit) -> None:
    northwind = one_slot.participants.get(partner__name="Northwind")
    nora = visit(northwind)
    nora.send("window")
    assert again(northwind).agreed_at == NOW
    assert again(northwind).evidence == ""
    assert northwind.steps.get(act="agree").state == "done"
    assert "Thank you: you agree to Thu 3 Dec 2026, 22:00 to 23:00 CST (UTC−06:00)." in nora.text


def test_agreeing_revokes_a_refusal_and_a_proposal(nora: Visitor, northwind: Participant) -> None:
    nora.send("decline", reason="Impossible")
    assert "You told us that it can’t be done. We get in touch with you." in nora.text
    nora.send("propose", **TIME)
    nora.send("window")
    northwind = again(northwind)
    assert (northwind.declined_at, northwind.proposed_at) == (None, None)


TIME = {
    "window_date": "2026-12-05",
    "window_from": "22:00",
    "window_until": "23:30",
    "window_zone": "America/Chicago",
    "note": "Inventory count",
}


def test_a_proposal_is_stored_in_the_partners_zone(nora: Visitor, northwind: Participant) -> None:
    nora.send("propose", **TIME)
    northwind = again(northwind)
    assert northwind.proposed_start == STARTS + timedelta(days=2)
    assert (northwind.proposed_zone, northwind.proposed_note) == ("America/Chicago", "Inventory count")
    assert northwind.rotation.window_start == STARTS
    assert "Thank you: you propose Sat 5 Dec 2026, 22:00 to 23:30 CST" in nora.text
    assert "We look at it and write to you. Until then, we don’t change over for you." in nora.text
    assert Message.objects.filter(kind="partner_response", to_address="alice@example.com").exists()


def test_an_impossible_time_is_refused_and_keeps_the_input(nora: Visitor, northwind: Participant) -> None:
    for changed, expected in [
        ({"window_date": "2026-12-20"}, "The old certificate ends before that: Sun 13 Dec 2026"),
        ({"window_date": "2026-11-20"}, "That time is over."),
        ({"window_from": ""}, "Say from when."),
        ({"window_until": "21:00", "window_date": "2026-12-12"}, "The old certificate ends before that"),
        ({"window_last_date": "2026-12-04"}, "This ends before it begins."),
        ({"window_zone": "Mars/Olympus"}, "Select a valid choice"),
    ]:
        answer = nora.send("propose", **{**TIME, **changed})
        assert answer.status_code == 422, changed
        assert expected in nora.text
        assert "Inventory count</textarea>" in answer.content.decode()
    assert again(northwind).proposed_at is None


def test_an_ambiguous_hour_is_asked_about(nora: Visitor, northwind: Participant, company: Company) -> None:
    # No zone has a DST change before the old certificate ends; Amman had one in October until 2022.
    type(company.old).objects.filter(pk=company.old.pk).update(not_after=NOW + timedelta(days=700))
    twice = {**TIME, "window_date": "2027-11-07", "window_from": "01:30", "window_until": "03:00"}
    answer = nora.send("propose", **twice)
    assert "comes twice in America/Chicago" in nora.text
    assert 'name="from_which"' in answer.content.decode()
    nora.send("propose", **twice, from_which="1")
    start = again(northwind).proposed_start
    assert start is not None
    assert (start.hour, start.minute) == (7, 30)


def test_a_nonexistent_hour_is_refused(nora: Visitor, northwind: Participant, company: Company) -> None:
    type(company.old).objects.filter(pk=company.old.pk).update(not_after=NOW + timedelta(days=700))
    nora.send("propose", **{**TIME, "window_date": "2027-03-14", "window_from": "02:30"})
    assert "does not exist in America/Chicago" in nora.text
    assert again(northwind).proposed_at is None


def test_offered_times_are_answered(
    nora: Visitor, rotation: Rotation, northwind: Participant, company: Company
) -> None:
    slots = offer_slots(rotation, [window(STARTS + timedelta(days=n)) for n in range(3)], by=company.by, now=NOW)
    assert nora.send("slots").status_code == 422
    assert "Tick the times at which you can" in nora.text
    nora.send("slots", can=[str(slots[0].uid), str(slots[2].uid)])
    can = dict(northwind.slot_answers.values_list("slot", "can"))
    assert can == {slots[0].pk: True, slots[1].pk: False, slots[2].pk: True}
    assert "Thank you, noted: you can at 2 of 3 times." in nora.text
    assert nora.page.content.decode().count(" checked") == 2
    nora.send("slots", none="on")
    assert not northwind.slot_answers.filter(can=True).exists()
    assert "none of the times suits you" in nora.text


def test_some_and_none_at_once_is_refused(
    nora: Visitor, rotation: Rotation, company: Company, northwind: Participant
) -> None:
    (slot,) = offer_slots(rotation, [window(STARTS)], by=company.by, now=NOW)
    answer = nora.send("slots", can=[str(slot.uid)], none="on")
    assert answer.content.decode().count(" checked") == 2
    assert not northwind.slot_answers.exists()


def test_a_time_of_another_rotation_is_refused(nora: Visitor, rotation: Rotation, company: Company) -> None:
    offer_slots(rotation, [window(STARTS)], by=company.by, now=NOW)
    nora.send("slots", can=["00000000-0000-0000-0000-000000000000"])
    assert "One of these times is no longer offered" in nora.text


def test_the_time_can_not_be_answered_once_the_window_is_open(one_slot: Rotation, visit: Visit, clock: Clock) -> None:
    northwind = one_slot.participants.get(partner__name="Northwind")
    nora = visit(northwind)
    nora.open()
    clock.now = STARTS
    for name, sent in (("window", {}), ("propose", TIME)):
        nora.send(name, **sent)
        assert "The agreed time has come: it can't be moved from here any more. Call us." in nora.text
    assert again(northwind).agreed_at is None
    # The input is kept although the page no longer has the form.
    assert "What you had typed" in nora.text
    assert "Inventory count" in nora.text


# Declining, switching, reporting


def test_declining_requires_a_reason_and_notifies_at_once(nora: Visitor, northwind: Participant) -> None:
    nora.send("decline", reason=" ")
    assert "Say why it can’t be done, so that we can find another way." in nora.text
    nora.send("decline", reason="Our vendor is away")
    assert again(northwind).declined_reason == "Our vendor is away"
    mail = Message.objects.get(kind="partner_response")
    assert mail.subject == "ACME: Northwind says no."
    assert said_last().reason == "Our vendor is away"


def test_a_partner_that_objects_reads_that_nothing_is_changed_before_that_is_settled(
    nora: Visitor, northwind: Participant, clock: Clock
) -> None:
    nora.send("propose", **TIME)
    clock.now = STARTS + timedelta(minutes=1)
    nora.open()
    assert "You proposed another time, and we have not answered yet." in nora.text
    assert "It is time: we are changing over" not in nora.text
    clock.now = NOW
    nora.send("decline", reason="Our vendor is away")
    for moment in (NOW, STARTS + timedelta(minutes=1)):
        clock.now = moment
        nora.open()
        assert "You told us that it can’t be done. We get in touch with you. Until then, we don’t change" in nora.text
        assert "It is time" not in nora.text


def test_a_partner_that_switches_on_its_own_reports_it(nora: Visitor, northwind: Participant) -> None:
    nora.open()
    assert "Encrypt your messages to us with the new certificate" in nora.text
    nora.send("switched", act="partner_cut_over")
    step = northwind.steps.get(act="partner_cut_over")
    assert (step.state, step.done_by) == ("done", "Nora North (Northwind)")
    assert said_last().verb in ("participant.switched", "step.done")
    assert Entry.objects.get(verb="participant.switched").address == "198.51.100.7"
    assert "Done: you have switched" in nora.text


def test_a_partner_that_changes_together_with_us_reports_no_switch(one_slot: Rotation, visit: Visit) -> None:
    northwind = one_slot.participants.get(partner__name="Northwind")
    nora = visit(northwind)
    nora.send("switched", act="partner_cut_over")
    assert "There is nothing to switch at this moment" in nora.text
    assert northwind.steps.get(act="partner_cut_over").state == "waiting"


def test_an_unknown_step_is_refused(nora: Visitor, northwind: Participant) -> None:
    for act in ("install", "cut_over", "", "test"):
        assert nora.send("switched", act=act).status_code == 422
    assert nothing_was_said()


def made(rotation: Rotation) -> None:
    rotation.steps.filter(act__in=("install", "cut_over", "test")).update(state="done", done_at=STARTS)
    rotation.steps.filter(act="partner_retire").update(blocked=False)
    Rotation.objects.filter(pk=rotation.pk).update(state="applied", applied_at=STARTS)


def test_after_the_change_the_partner_reports_the_result(
    nora: Visitor, rotation: Rotation, northwind: Participant, clock: Clock
) -> None:
    made(rotation)
    clock.now = AFTER
    nora.open()
    assert "Does everything work?" in nora.text
    nora.send("report", works="no")
    assert "Say what does not work, such as the error that your system shows." in nora.text
    nora.send("report", works="no", note="authentication-failed")
    northwind = again(northwind)
    assert (northwind.works, northwind.works_note) == (False, "authentication-failed")
    assert "We have noted that something does not work, and were told at once." in nora.text
    assert Message.objects.filter(subject="ACME: Northwind reports trouble after the change.").exists()
    nora.send("report", works="yes")
    assert again(northwind).works is True
    assert "Thank you: messages flow." in nora.text


def test_the_removal_of_the_old_certificate_is_reported_when_due(
    nora: Visitor, rotation: Rotation, northwind: Participant, clock: Clock
) -> None:
    made(rotation)
    clock.now = AFTER
    nora.send("report", works="yes")
    assert "Not before Thu 17 Dec 2026, 23:00 CST." in nora.text
    assert "We have removed it" not in nora.text
    clock.now = STARTS + timedelta(days=15)
    nora.send("switched", act="partner_retire")
    assert northwind.steps.get(act="partner_retire").state == "done"
    assert Entry.objects.get(verb="participant.switched").new == {"what": "removed the old certificate"}


def test_a_report_before_the_change_is_refused(nora: Visitor, northwind: Participant) -> None:
    nora.send("report", works="yes")
    assert "The change has not been made yet" in nora.text
    assert again(northwind).works is None


def test_declining_after_the_change_is_refused(nora: Visitor, rotation: Rotation, northwind: Participant) -> None:
    made(rotation)
    nora.send("decline", reason="No, no")
    assert "The change has been made already. If something does not work, say that instead." in nora.text
    assert "No, no" in nora.text
    assert again(northwind).declined_at is None


def test_late_answers_are_accepted_where_they_still_help(
    nora: Visitor, northwind: Participant, company: Company, clock: Clock
) -> None:
    clock.now = AFTER
    nora.send("installed", how="proof", fingerprint=company.new.sha256)
    assert again(northwind).evidence == "strong"


CONFIRMED = {"how": "word"}


@pytest.mark.parametrize(
    ("state", "name", "sent", "expected"),
    [
        ("rolling_back", "installed", CONFIRMED, "We are going back to the old certificate: nothing else is asked"),
        ("rolling_back", "decline", {"reason": "No, no"}, "We are going back to the old certificate"),
        ("applied", "window", {}, "The change has begun already: its time can't be chosen any more."),
        ("applied", "propose", TIME, "The change has begun already: its time can't be chosen any more."),
        ("scheduled", "slots", {"none": "on"}, "No times are offered any more"),
        ("scheduled", "capability", {"keeps_both": "no"}, "It makes no difference to this change any more"),
        ("applied", "switched", {"act": "partner_retire"}, "that step is done, or comes later."),
        ("closed", "colleague", {"name": "Ned", "phone": "1"}, "This change is over"),
    ],
)
def test_what_a_partner_can_not_answer_now_is_refused(
    nora: Visitor, rotation: Rotation, state: str, name: str, sent: dict[str, str], expected: str
) -> None:
    nora.open()
    if state == "applied":
        made(rotation)
    ended = NOW if state == "closed" else None
    Rotation.objects.filter(pk=rotation.pk).update(state=state, ended_at=ended)
    nora.open()
    assert nora.send(name, **sent).status_code == 422
    assert expected in nora.text
    assert nothing_was_said()


def test_a_proven_installation_is_not_confirmed_again_after_the_change(
    nora: Visitor, rotation: Rotation, company: Company
) -> None:
    nora.send("installed", how="proof", fingerprint=company.new.sha256)
    made(rotation)
    nora.open()
    assert nora.send("installed", how="word").status_code == 422
    assert "There is nothing left to confirm: the fingerprint has matched" in nora.text


def test_the_window_can_not_be_agreed_to_while_other_times_are_offered(
    nora: Visitor, rotation: Rotation, company: Company, northwind: Participant
) -> None:
    offer_slots(rotation, [window(STARTS)], by=company.by, now=NOW)
    assert nora.send("window").status_code == 422
    assert "Several times are offered by now" in nora.text
    assert again(northwind).agreed_at is None


def test_nobody_declines_or_proposes_a_time_in_an_emergency(
    nora: Visitor, rotation: Rotation, northwind: Participant
) -> None:
    Rotation.objects.filter(pk=rotation.pk).update(emergency_reason="The key was in a ticket")
    for name, sent, expected in (
        ("decline", {"reason": "No, no"}, "The certificate is replaced at once, and nobody can be waited for."),
        ("propose", TIME, "The certificate is replaced at once: there is no time to choose."),
    ):
        assert nora.send(name, **sent).status_code == 422
        assert expected in nora.text
    assert not again(northwind).has_objection


# Colleagues

NED = {
    "name": "Ned Night",
    "email": "ned@northwind.example",
    "phone": "+1 312 555 0199",
    "job": "night shift",
}


def test_a_suggested_colleague_is_stored_and_not_notified(nora: Visitor, northwind: Participant) -> None:
    nora.send("colleague", **NED)
    ned = Contact.objects.get(name="Ned Night")
    assert (ned.partner, ned.suggested_by, ned.job) == (
        northwind.partner,
        "Nora North (Northwind)",
        "night shift",
    )
    assert list(northwind.partner.contacts.taken_on().values_list("name", flat=True)) == ["Nora North"]
    mail = Message.objects.get(kind="partner_response")
    assert mail.to_address == "alice@example.com"
    assert "names Ned Night as the right person" in mail.subject
    assert Entry.objects.get(verb="contact.suggested").new["e-mail"] == "ned@northwind.example"
    assert "Nora North named Ned Night as the right person" in nora.text


def test_an_invalid_colleague_is_refused(nora: Visitor) -> None:
    for changed, expected in [
        ({"email": "NORA@northwind.example"}, "NORA@northwind.example is known to us already"),
        ({"email": "", "phone": ""}, "Give an e-mail address or a phone number"),
        ({"name": ""}, "Give a name."),
        ({"email": "ned"}, "Enter a valid email address."),
    ]:
        answer = nora.send("colleague", **{**NED, **changed})
        assert answer.status_code == 422, changed
        assert expected in nora.text
        assert "night shift" in answer.content.decode()
    assert not Contact.objects.exclude(suggested_by="").exists()


@pytest.mark.on_postgres
def test_suggestions_are_unique_and_limited(nora: Visitor) -> None:
    for number in range(5):
        nora.send("colleague", name=f"N{number}", email=f"n{number}@northwind.example")
    nora.send("colleague", name="N0", email="n0@northwind.example")
    assert "n0@northwind.example was named before" in nora.text
    nora.send("colleague", name="N9", email="n9@northwind.example")
    assert "5 people have been named already" in nora.text
    assert Contact.objects.exclude(suggested_by="").count() == 5


# GET requests


def test_a_get_of_an_answer_redirects_and_changes_nothing(nora: Visitor) -> None:
    for name in ("installed", "window", "slots", "propose", "decline", "switched", "report", "colleague"):
        for method in (nora.client.get, nora.client.head):
            answer = method(nora.address(f"portal-{name}"))
            assert (answer.status_code, answer["Location"]) == (302, nora.address()), name
    assert not Entry.objects.filter(source="portal").exists()
