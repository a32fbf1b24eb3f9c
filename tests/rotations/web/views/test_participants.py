"""Recording partners' answers, and steps that were carried out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from as2certs import pki
from as2certs.audit.models import Entry
from identities.capabilities import Support
from identities.models import AS2System
from partners.models import Contact, Partner
from rotations.execution import confirmations
from rotations.lifecycle import approval, drafts, endings
from rotations.models import Participant, Rotation
from rotations.planning.windows import Window
from tests.capabilities import keeps_both
from tests.rotations.company import NOW, Company, partner_certificate
from tests.rotations.pages import (
    STARTS,
    first_participant,
    get_page,
    make_approved,
    make_drafted,
    page_text,
    post_form,
    step_of,
    stored_state,
)


def answer(client: Client, participant: Participant, **fields: str) -> Any:
    return post_form(client, "participant-confirm", participant.uid, **fields)


def again(participant: Participant) -> Participant:
    return Participant.objects.get(pk=participant.pk)


SPELLINGS: list[Callable[[str], str]] = [
    str,
    str.upper,
    pki.format_fingerprint,
    lambda digits: pki.format_fingerprint(digits).replace(":", " ").lower(),
    lambda digits: f"SHA256 Fingerprint={pki.format_fingerprint(digits)}\n",
    lambda digits: f"{digits[:32]}\n{digits[32:]}",
    lambda digits: "-".join(digits[i : i + 4] for i in range(0, 64, 4)),
]


@pytest.mark.parametrize("spell", SPELLINGS)
def test_a_fingerprint_counts_in_any_spelling(operator: Client, company: Company, spell: Callable[[str], str]) -> None:
    participant = first_participant(make_approved(company))
    answer(operator, participant, fingerprint=spell(company.new.sha256), spoke_with="Dana")
    participant = again(participant)
    assert (participant.evidence, participant.fingerprint) == ("strong", company.new.sha256)
    assert participant.confirmed_with == "Dana"
    assert not participant.steps.filter(act="install").exclude(state="done").exists()


def test_the_old_fingerprint_is_refused_as_such(operator: Client, company: Company) -> None:
    participant = first_participant(make_approved(company))
    response = answer(operator, participant, fingerprint=company.old.sha256, spoke_with="Dana", note="2nd call")
    assert response.status_code == 422
    shown = page_text(response)
    assert "That is the fingerprint of the old certificate" in shown
    assert 'value="Dana"' in shown
    assert "2nd call" in shown
    assert again(participant).evidence == ""


def test_an_unknown_fingerprint_is_refused(operator: Client, company: Company) -> None:
    participant = first_participant(make_approved(company))
    shown = page_text(answer(operator, participant, fingerprint="ab" * 32))
    assert "neither the old nor the new certificate" in shown
    assert again(participant).confirmed_at is None


@pytest.mark.parametrize(
    ("typed", "reason"),
    [("ab" * 16, "MD5 fingerprint"), ("xyz", "has only the digits"), ("ab" * 30, "some are missing")],
)
def test_an_invalid_fingerprint_is_an_error_of_its_field(
    operator: Client, company: Company, typed: str, reason: str
) -> None:
    participant = first_participant(make_approved(company))
    response = answer(operator, participant, fingerprint=typed)
    assert reason in response.context["form"].errors["fingerprint"][0]


def test_our_own_certificate_is_recognised_by_its_sha1_too(operator: Client, company: Company) -> None:
    participant = first_participant(make_approved(company))
    answer(operator, participant, fingerprint=pki.format_fingerprint(company.new.sha1))
    assert (again(participant).evidence, again(participant).fingerprint) == ("strong", company.new.sha1)
    assert "neither the old nor the new" in page_text(answer(operator, participant, fingerprint="ab" * 20))


def test_a_statement_is_weak_and_never_weakens_a_match(operator: Client, company: Company) -> None:
    participant = first_participant(make_approved(company))
    answer(operator, participant, installed="on")
    assert again(participant).evidence == "weak"
    answer(operator, participant, fingerprint=company.new.sha256)
    answer(operator, participant, installed="on", note="called back")
    assert (again(participant).evidence, again(participant).note) == ("strong", "called back")


def test_a_note_alone_settles_nothing(operator: Client, company: Company) -> None:
    rotation = make_approved(company)
    participant = first_participant(rotation)
    answer(operator, participant, note="Calls back tomorrow", spoke_with="Dana")
    assert (again(participant).note, again(participant).evidence) == ("Calls back tomorrow", "")
    assert not participant.steps.filter(state="done").exists()
    assert "Calls back tomorrow" in page_text(get_page(operator, "rotation-detail", rotation.uid))


def test_an_empty_answer_is_refused(operator: Client, company: Company) -> None:
    participant = first_participant(make_approved(company))
    assert "Say what they answered" in page_text(answer(operator, participant, spoke_with="Dana"))


def test_agreeing_to_the_window_confirms_no_installation(operator: Client, company: Company) -> None:
    Partner.objects.filter(name="Fabrikam").update(**keeps_both("no"))
    participant = first_participant(make_approved(company))
    answer(operator, participant, agreed="on")
    participant = again(participant)
    assert (participant.agreed_at, participant.evidence) == (NOW, "")
    assert participant.steps.get(act="agree").state == "done"


def test_a_partner_that_can_hold_both_is_not_asked_for_the_window(operator: Client, company: Company) -> None:
    company.identity.as2_system = AS2System.objects.create(
        name="OpenAS2", connector="manual", **keeps_both(Support.YES)
    )
    company.identity.save()
    participant = first_participant(make_approved(company))
    assert "They agree to the window" not in page_text(get_page(operator, "participant-confirm", participant.uid))


def test_the_last_answer_makes_it_scheduled(operator: Client, company: Company) -> None:
    company.identity.as2_system = AS2System.objects.create(
        name="OpenAS2", connector="manual", **keeps_both(Support.YES)
    )
    company.identity.save()
    rotation = make_approved(company)
    post_form(operator, "rotation-step-done", step_of(rotation, "stage").uid, note="loaded")
    for participant in rotation.participants.all():
        assert stored_state(rotation) == "exchanging"
        answer(operator, participant, fingerprint=company.new.sha256, agreed="on")
    assert stored_state(rotation) == "scheduled"


def test_the_form_shows_the_contacts_and_the_fingerprint(operator: Client, company: Company) -> None:
    Contact.objects.create(partner=company.partners[0], name="Dana", phone="+1 555 0100", email="d@example.com")
    shown = page_text(get_page(operator, "participant-confirm", first_participant(make_approved(company)).uid))
    assert "tel:+15550100" in shown
    assert pki.format_fingerprint(company.new.sha256) in shown


def test_drafts_and_ended_rotations_take_no_answers(operator: Client, company: Company) -> None:
    rotation = make_drafted(company)
    participant = first_participant(rotation)
    assert "Approve the plan first" in page_text(get_page(operator, "participant-confirm", participant.uid))
    answer(operator, participant, installed="on")
    endings.cancel(rotation, reason="no", by=company.by, now=NOW)
    assert "has ended" in page_text(get_page(operator, "participant-waive", participant.uid))
    answer(operator, participant, installed="on")
    assert again(participant).evidence == ""


# Waiving and removing


def test_waiving_an_answer_requires_a_reason(operator: Client, company: Company) -> None:
    rotation = make_approved(company)
    participant = first_participant(rotation)
    assert post_form(operator, "participant-waive", participant.uid, reason="").status_code == 422
    assert post_form(operator, "participant-waive", participant.uid, reason="Pilot partner").status_code == 302
    assert again(participant).waived_reason == "Pilot partner"
    assert Entry.objects.filter(verb="participant.waived", reason="Pilot partner").count() == 1
    shown = page_text(get_page(operator, "rotation-detail", rotation.uid))
    assert "waived:</span> Pilot partner" in shown


def test_removing_a_partner_from_a_draft_requires_a_reason(operator: Client, company: Company) -> None:
    rotation = make_drafted(company)
    participant = first_participant(rotation)
    assert post_form(operator, "participant-remove", participant.uid, reason="Ends in May").status_code == 302
    shown = page_text(get_page(operator, "rotation-detail", rotation.uid))
    assert "1 left out" in shown
    assert "Fabrikam: Ends in May" in shown
    assert "takes no part already" in page_text(get_page(operator, "participant-remove", participant.uid))


def test_a_removed_partner_can_be_restored(operator: Client, company: Company) -> None:
    rotation = make_drafted(company)
    participant = first_participant(rotation)
    post_form(operator, "participant-remove", participant.uid, reason="Ends in May")
    assert post_form(operator, "participant-restore", participant.uid).status_code == 302
    assert again(participant).removed_reason == ""
    assert "takes part already" in page_text(post_form(operator, "participant-restore", participant.uid))
    assert Entry.objects.filter(verb="participant.restored").count() == 1


def test_no_partner_is_restored_after_approval(operator: Client, company: Company) -> None:
    rotation = make_drafted(company)
    participant = first_participant(rotation)
    drafts.remove_participant(participant, reason="Ends in May", by=company.by, now=NOW)
    approval.approve(rotation, by=company.approver, now=NOW)
    assert "is not possible" in page_text(post_form(operator, "participant-restore", participant.uid))
    assert again(participant).removed_reason == "Ends in May"


def test_no_partner_is_removed_after_approval(operator: Client, company: Company) -> None:
    participant = first_participant(make_approved(company))
    assert "is not possible" in page_text(post_form(operator, "participant-remove", participant.uid, reason="x"))
    assert again(participant).removed_reason == ""


@pytest.mark.parametrize("name", ["confirm", "waive", "remove", "restore"])
def test_viewers_can_not_record_answers(viewer: Client, approver: Client, company: Company, name: str) -> None:
    participant = first_participant(make_approved(company))
    for client in (viewer, approver):
        assert get_page(client, f"participant-{name}", participant.uid).status_code == 403
        assert post_form(client, f"participant-{name}", participant.uid, reason="x", installed="on").status_code == 403
    assert again(participant).evidence == ""


# A partner's own certificate


def partners_rotation(company: Company) -> Rotation:
    partner = company.partners[0]
    old = partner_certificate(partner, by=company.by, now=NOW, ends=NOW.replace(year=2027))
    new = partner_certificate(partner, by=company.by, now=NOW, ends=NOW.replace(year=2028))
    window = Window(STARTS, STARTS.replace(hour=STARTS.hour + 1), "America/Chicago")
    spec = drafts.DraftSpec(roles=("verify", "encrypt"), old=old, new=new, window=window)
    rotation = drafts.create_draft(partner, spec, by=company.by, now=NOW)
    return approval.approve(rotation, by=company.approver, now=NOW)


def test_comparing_a_partners_own_fingerprint_completes_the_check_only(operator: Client, company: Company) -> None:
    rotation = partners_rotation(company)
    participant = first_participant(rotation)
    assert rotation.new is not None
    answer(operator, participant, fingerprint=rotation.new.sha256, channel="on the telephone", spoke_with="Dana")
    assert step_of(rotation, "check").state == "done"
    assert step_of(rotation, "check").note == "Dana read out the fingerprint on the telephone, which matches"
    assert Entry.objects.get(verb="participant.confirmed").new["channel"] == "on the telephone"
    assert again(participant).confirmed_at is None
    assert not rotation.steps.filter(act="install", state="done").exists()


def test_the_channel_decides_whether_their_own_fingerprint_counts(operator: Client, company: Company) -> None:
    rotation = partners_rotation(company)
    participant = first_participant(rotation)
    assert rotation.new is not None
    sha256 = rotation.new.sha256
    assert "Say over which channel" in page_text(answer(operator, participant, fingerprint=sha256))
    assert "Choose one of these channels" in page_text(answer(operator, participant, fingerprint=sha256, channel="x"))
    assert answer(operator, participant, fingerprint=sha256, channel="as it came").status_code == 302
    assert step_of(rotation, "check").state == "waiting"


def test_a_partners_own_certificate_is_not_compared_by_sha1(operator: Client, company: Company) -> None:
    rotation = partners_rotation(company)
    participant = first_participant(rotation)
    assert rotation.new is not None
    response = answer(operator, participant, fingerprint=rotation.new.sha1, channel="on the telephone")
    assert "SHA-1 fingerprint" in response.context["form"].errors["fingerprint"][0]
    with pytest.raises(pki.PkiError, match="SHA-1"):
        confirmations.confirm_installation(
            participant,
            confirmations.PartnerAnswer("", by=company.by, now=NOW),
            fingerprint=rotation.new.sha1,
        )
    assert step_of(rotation, "check").state == "waiting"


def test_the_channel_is_asked_for_partners_certificates_only(operator: Client, company: Company) -> None:
    ours, theirs = first_participant(make_approved(company)), first_participant(partners_rotation(company))
    assert "Over which channel" not in page_text(get_page(operator, "participant-confirm", ours.uid))
    assert "Over which channel" in page_text(get_page(operator, "participant-confirm", theirs.uid))


def test_a_statement_does_not_complete_the_fingerprint_check(operator: Client, company: Company) -> None:
    rotation = partners_rotation(company)
    answer(operator, first_participant(rotation), installed="on", agreed="on")
    assert step_of(rotation, "check").state == "waiting"


# Steps by hand


def by_hand(company: Company) -> Rotation:
    company.identity.as2_system = AS2System.objects.create(
        name="OpenAS2", connector="manual", **keeps_both(Support.YES)
    )
    company.identity.save()
    return make_approved(company)


def test_a_step_is_recorded_as_done_with_evidence(operator: Client, company: Company) -> None:
    rotation = by_hand(company)
    step = step_of(rotation, "stage")
    assert "What shows that it is done" in page_text(get_page(operator, "rotation-detail", rotation.uid))
    assert post_form(operator, "rotation-step-done", step.uid, note="Ticket 4711").status_code == 302
    step.refresh_from_db()
    assert (step.state, step.note, step.done_by) == ("done", "Ticket 4711", "olivia")


def test_a_step_by_hand_says_where_the_product_takes_the_certificate(operator: Client, company: Company) -> None:
    rotation = by_hand(company)
    step = step_of(rotation, "stage")
    assert "In BizTalk Server" not in page_text(get_page(operator, "rotation-step-done", step.uid))
    AS2System.objects.update(software="biztalk")
    for page in (
        get_page(operator, "rotation-detail", rotation.uid),
        get_page(operator, "rotation-step-done", step.uid),
    ):
        assert "In BizTalk Server, install the .pfx in the Personal store" in page_text(page)


def test_a_step_is_done_once(operator: Client, company: Company) -> None:
    step = step_of(by_hand(company), "stage")
    post_form(operator, "rotation-step-done", step.uid, note="first")
    response = post_form(operator, "rotation-step-done", step.uid, note="second")
    assert response.status_code == 422
    assert "second" in page_text(response)
    step.refresh_from_db()
    assert step.note == "first"


def test_a_blocked_step_names_its_predecessors(operator: Client, company: Company) -> None:
    rotation = by_hand(company)
    response = post_form(operator, "rotation-step-done", step_of(rotation, "cut_over").uid)
    assert "comes later: first" in page_text(response)


def test_automatic_steps_are_not_recorded_by_hand(operator: Client, company: Company) -> None:
    step = step_of(make_approved(company), "cut_over")
    assert step.automatic
    assert "carried out by the application" in page_text(post_form(operator, "rotation-step-done", step.uid))


def test_a_step_is_skipped_with_a_reason_but_never_the_cut_over(operator: Client, company: Company) -> None:
    rotation = by_hand(company)
    test, cut = step_of(rotation, "test"), step_of(rotation, "cut_over")
    assert post_form(operator, "rotation-step-skip", test.uid, reason="").status_code == 422
    assert post_form(operator, "rotation-step-skip", test.uid, reason="No test partner").status_code == 302
    assert "what this rotation is for" in page_text(post_form(operator, "rotation-step-skip", cut.uid, reason="x"))
    test.refresh_from_db()
    assert (test.state, test.note) == ("skipped", "No test partner")


def test_the_same_step_of_all_partners_is_recorded_at_once(operator: Client, company: Company) -> None:
    rotation = by_hand(company)
    post_form(operator, "rotation-step-done", step_of(rotation, "stage").uid)
    shown = page_text(get_page(operator, "rotation-steps-done", rotation.uid, "announce"))
    assert "Record all 2 as done" in shown
    assert post_form(operator, "rotation-steps-done", rotation.uid, "announce", note="One mail").status_code == 302
    assert set(rotation.steps.filter(act="announce").values_list("state", "note")) == {("done", "One mail")}


def test_installations_are_not_recorded_in_bulk(operator: Client, company: Company) -> None:
    rotation = by_hand(company)
    assert "None of these steps" in page_text(get_page(operator, "rotation-steps-done", rotation.uid, "install"))
    post_form(operator, "rotation-steps-done", rotation.uid, "install")
    assert not rotation.steps.filter(act="install", state="done").exists()


@pytest.mark.parametrize("name", ["done", "skip", "retry"])
def test_viewers_can_not_settle_steps(viewer: Client, company: Company, name: str) -> None:
    step = step_of(by_hand(company), "stage")
    assert post_form(viewer, f"rotation-step-{name}", step.uid, reason="x").status_code == 403
    step.refresh_from_db()
    assert step.state == "waiting"
