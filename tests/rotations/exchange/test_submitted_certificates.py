"""Submitted certificates are checked, stored without a role, and not used before they were compared."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from as2certs import pki
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.mail.models import Message
from identities.certificates import single_import
from identities.certificates.single_import import import_certificate
from identities.models import PrivateKey
from partners import contacts
from partners.models import Partner, PartnerCertificate, PartnerService
from rotations.errors import ActionRefused, EditConflict, PrivateKeySubmitted, SubmissionRefused
from rotations.exchange import submitted_certificates
from rotations.exchange.submitted_certificates import (
    FingerprintComparison,
    accept,
    contacts_by_age,
    read_submission,
    refuse,
)
from rotations.execution.confirmations import PartnerAnswer, record_answer
from rotations.lifecycle import approval, drafts, endings, step_actions
from rotations.lifecycle.drafts import DraftSpec, create_draft
from rotations.models import HandedIn, Link, Participant, Rotation
from tests.arrivals import files
from tests.certificates import cert_pem, key_pem, make_ca, make_pair, p12, rsa_key
from tests.rotations.company import NOW, Company, window
from tests.rotations.exchange.incoming import BOTH, NORA, link_to, make_pem, put_in_use, submit_new
from tests.rotations.pages import STARTS

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)


@pytest.fixture
def northwind(company: Company) -> Partner:
    """Return a partner with a contact, Nora, and a certificate in both roles that expires in 20 days."""
    partner = company.partners[1]
    put_in_use(company, partner)
    return partner


@pytest.fixture
def fabrikam(company: Company) -> Partner:
    return company.partners[0]


@pytest.fixture
def old(northwind: Partner) -> PartnerCertificate:
    found: PartnerCertificate = northwind.certificates.get()
    return found


def only(partner: Partner) -> Rotation:
    return partner.rotations.get()


def approved(rotation: Rotation, company: Company) -> Rotation:
    """Give a draft a window, and approve it."""
    wish = DraftSpec(roles=tuple(rotation.roles), old=rotation.old, new=rotation.new, window=window(STARTS))
    drafts.change_draft(rotation, wish, by=company.by, now=NOW)
    return approval.approve(rotation, by=company.approver, now=NOW)


def accept_submission(handed: HandedIn, company: Company, **given: Any) -> None:
    answer: dict[str, Any] = {
        "fingerprint": pki.format_fingerprint(handed.certificate.sha256),
        "spoke_with": "Nora North",
        "channel": "telephone",
        "note": "",
        **given,
    }
    accept(handed, FingerprintComparison(**answer), by=company.by, now=NOW)


def serving(partner: Partner) -> set[tuple[str, str]]:
    return set(partner.service.open().values_list("role", "certificate__sha256"))


# What becomes of it.


def test_it_is_kept_in_no_role_and_starts_a_draft(northwind: Partner, old: PartnerCertificate) -> None:
    arrival = submit_new(northwind)
    (handed,) = arrival.rows
    rotation = only(northwind)
    assert arrival.is_new
    assert handed.rotation == rotation
    assert (rotation.state, rotation.old, rotation.new) == ("draft", old, handed.certificate)
    assert (rotation.roles, rotation.window_start, rotation.set_up_by) == (["verify", "encrypt"], None, None)
    assert serving(northwind) == {(role, old.sha256) for role in BOTH}
    assert (handed.submitted_by, handed.accepted, handed.settled_at) == (NORA.name, None, None)


def test_a_role_that_has_no_certificate_stays_without_one(fabrikam: Partner) -> None:
    (handed,) = submit_new(fabrikam).rows
    assert not PartnerService.objects.exists()
    assert (only(fabrikam).old, only(fabrikam).new) == (None, handed.certificate)


def test_the_trail_has_it_with_time_and_address_on_all_that_it_concerns(northwind: Partner) -> None:
    link = link_to(northwind, northwind.contacts.get())
    (handed,) = submit_new(northwind, link=link).rows
    for thing in (handed.certificate, northwind, link, only(northwind)):
        entry = Entry.objects.about(thing).filter(verb="certificate.handed_in").get()
        assert (entry.at, entry.address, entry.source) == (NOW, "198.51.100.7", "portal")
        assert entry.actor_name == "Nora North (Northwind)"


def test_our_people_are_asked_to_compare_it(company: Company, northwind: Partner) -> None:
    northwind.owners.add(company.alice)
    (handed,) = submit_new(northwind).rows
    message = Message.objects.get(kind="handed_in")
    assert message.to_address == "alice@example.com"
    assert message.subject == "Northwind: its new certificate came in, compare the fingerprint"
    for text in (message.text, message.html):
        assert handed.get_absolute_url() in text
        assert handed.certificate.short_name in text
        assert "Nora North (Northwind)" in text


def test_the_same_twice_is_one(northwind: Partner) -> None:
    first, second = submit_new(northwind), submit_new(northwind)
    assert (first.rows, second.is_new) == (second.rows, False)
    assert HandedIn.objects.count() == 1
    assert Rotation.objects.count() == 1
    assert Entry.objects.filter(verb="certificate.handed_in").count() == 1


def test_one_for_two_that_are_in_use_starts_a_draft_for_each(company: Company, fabrikam: Partner) -> None:
    signs, encrypts = [
        single_import.import_certificate(
            fabrikam,
            read_submission(fabrikam, make_pem(name), now=NOW).material,
            roles=(role,),
            by=company.by,
            now=NOW,
        ).certificate
        for name, role in (("F-SIGN", "verify"), ("F-ENCRYPT", "encrypt"))
    ]
    rows = submit_new(fabrikam, make_pem("F-BOTH", days=800)).rows
    assert {(row.rotation.old, tuple(row.roles)) for row in rows if row.rotation} == {
        (signs, ("verify",)),
        (encrypts, ("encrypt",)),
    }
    accept_submission(rows[0], company)
    assert not HandedIn.objects.pending().exists()


def test_a_draft_that_waits_for_it_gets_it(company: Company, northwind: Partner, old: PartnerCertificate) -> None:
    waiting = create_draft(northwind, DraftSpec(roles=BOTH, old=old), by=company.by, now=NOW)
    (handed,) = submit_new(northwind).rows
    assert only(northwind) == waiting == handed.rotation
    assert only(northwind).new == handed.certificate
    assert Entry.objects.about(waiting).filter(verb="rotation.successor_ready").exists()


def test_a_draft_that_waits_for_one_role_gets_it_and_the_other_role_its_own(
    company: Company, northwind: Partner, old: PartnerCertificate
) -> None:
    waiting = create_draft(northwind, DraftSpec(roles=("verify",), old=old), by=company.by, now=NOW)
    rows = submit_new(northwind).rows
    assert {(row.rotation == waiting, tuple(row.roles)) for row in rows} == {
        (True, ("verify",)),
        (False, ("encrypt",)),
    }


@pytest.mark.parametrize("what", ["a draft to another one", "an approved one", "a wider draft that waits"])
def test_if_a_rotation_changes_the_roles_an_operator_decides(
    company: Company, northwind: Partner, old: PartnerCertificate, what: str
) -> None:
    northwind.owners.add(company.alice)
    other = None if "waits" in what else submit_new(northwind, make_pem("OTHER")).rows[0].certificate
    rotation = only(northwind) if other else create_draft(northwind, DraftSpec(BOTH, old), by=company.by, now=NOW)
    if what == "an approved one":
        approved(rotation, company)
    roles = ("verify",) if "waits" in what else BOTH
    (handed,) = submit_new(northwind, roles=roles).rows
    assert handed.rotation is None
    assert only(northwind).new == other
    assert serving(northwind) == {(role, old.sha256) for role in BOTH}
    message = Message.objects.filter(kind="handed_in").latest("id")
    assert message.subject == "Northwind: its new certificate came in, decide about it"
    assert "A rotation already changes what it is for" in " ".join(message.text.split())


def test_only_so_many_wait_to_be_compared(company: Company, northwind: Partner) -> None:
    for number in range(submitted_certificates.MAX_WAITING):
        submit_new(northwind, make_pem(f"N-{number}"))
    with pytest.raises(SubmissionRefused, match="5 certificates of yours wait for us to compare them already"):
        submit_new(northwind, make_pem("ONE-MORE"))
    accept_submission(HandedIn.objects.order_by("id")[0], company)
    assert submit_new(northwind, make_pem("ONE-MORE")).is_new


# What is not taken.


def make_weak() -> bytes:
    return make_pem("WEAK", bits=1024)


def make_expired() -> bytes:
    return make_pem("GONE", not_before=NOW - timedelta(days=30), days=0 - 1 / 86400)


def bad_inputs() -> dict[str, tuple[Callable[[], bytes], str]]:
    return {
        "expired": (make_expired, "It expired on 2026-11-23 11:59 UTC: hand in the one that follows it."),
        "weak": (
            make_weak,
            "Its RSA key has 1024 bits, and fewer than 2048 are not safe: make or ask for a certificate with an RSA "
            "key of 2048 or 3072 bits.",
        ),
        "a CA": (
            lambda: cert_pem(make_pair("Sub", ca=True, issuer=make_ca())[0]),
            "It is the certificate of a CA (“Sub”), not one of an AS2 station: ask for the certificate that this CA "
            "issued to the station.",
        ),
        "several": (
            lambda: make_pem("ONE") + make_pem("TWO"),
            "The file holds 2 certificates that do not belong together (“ONE” and “TWO”): choose a file with only the "
            "one that is needed, and its chain.",
        ),
        "empty": (lambda: b"\n ", "The file is empty: export it again and choose the new file."),
        "garbage": (
            lambda: b"\x00\x01\x02garbage\xff" * 50,
            "The file is binary data that is neither a certificate nor a key: choose the right file.",
        ),
        "text": (
            lambda: b"please find it attached",
            "The file is a text without a certificate or key in it: choose the right one, as PEM or DER.",
        ),
        "too large": (lambda: b"x" * (pki.MAX_FILE_BYTES + 1), "The file is larger than 1 MiB"),
    }


@pytest.mark.parametrize("what", list(bad_inputs()))
def test_what_can_not_be_used_is_refused_in_one_sentence(northwind: Partner, what: str) -> None:
    make, said = bad_inputs()[what]
    with pytest.raises(SubmissionRefused, match=f"^{re.escape(said)}"):
        submit_new(northwind, make())
    assert not HandedIn.objects.exists()
    assert northwind.certificates.count() == 1


@pytest.mark.parametrize("how", ["beside it", "alone", "PKCS#12", "JKS", "PFX in a ZIP", "base64 of a PEM"])
def test_a_private_key_is_thrown_away_with_the_advice_to_replace_it(northwind: Partner, how: str) -> None:
    pair = make_pair("NORTHWIND-2")
    data = {
        "beside it": cert_pem(pair[0]) + key_pem(pair[1]),
        "alone": key_pem(pair[1], "secret"),
        "PKCS#12": p12(pair),
        "JKS": files.java_keystore(with_key=True),
        "PFX in a ZIP": files.make_zip({"as2.pfx": p12(pair)}),
        "base64 of a PEM": base64.encodebytes(key_pem(pair[1])),
    }[how]
    with pytest.raises(PrivateKeySubmitted, match="nothing of it was kept, but replace that key"):
        submit_new(northwind, data)
    assert not HandedIn.objects.exists()
    assert not PrivateKey.objects.exclude(identity__name="ACME").exists()


def test_what_was_repaired_is_a_note_that_needs_no_confirmation(northwind: Partner) -> None:
    reading = read_submission(northwind, files.make_zip({"new.cer": make_pem("NEW").replace(b"-", b"\x96")}), now=NOW)
    (note,) = reading.findings
    assert (note.code, note.level) == ("repaired", "note")
    assert "a ZIP archive (“new.cer”) and typographic dashes were turned into hyphens" in note.reason


def test_of_an_old_and_a_new_certificate_the_newer_one_is_offered_for_confirmation(northwind: Partner) -> None:
    old, new = make_pem("NEW", days=20), make_pem("NEW")
    reading = read_submission(northwind, old + new, now=NOW)
    assert reading.pem.encode() == new
    (finding,) = reading.findings
    assert (finding.code, finding.level) == ("newest-of-several", "warning")


def test_a_successor_that_keeps_the_key_is_a_warning_to_the_partner(company: Company, northwind: Partner) -> None:
    northwind.service.all().delete()
    used = pki.read_public(make_pem("NEW", days=20, key=rsa_key("kept")))
    import_certificate(northwind, used, roles=("verify", "encrypt"), by=company.by, now=NOW)
    reading = read_submission(northwind, make_pem("NEW", key=rsa_key("kept")), now=NOW)
    assert [finding.code for finding in reading.findings] == ["same-key-as-predecessor"]


def test_a_store_of_certificates_alone_is_no_alarm(northwind: Partner) -> None:
    leaf = make_pair("NEW", not_before=NOW - timedelta(days=1), not_after=NOW + timedelta(days=300))[0]
    assert submit_new(northwind, files.plain_pkcs12(leaf)).is_new


def test_just_before_its_expiry_it_is_accepted(northwind: Partner) -> None:
    assert submit_new(northwind, make_pem("LAST", not_before=NOW - timedelta(days=30), days=0)).is_new


def test_one_that_begins_later_is_fine(northwind: Partner) -> None:
    later = make_pem("LATER", not_before=NOW + SECOND)
    findings = read_submission(northwind, later, now=NOW).findings
    assert [(f.code, f.advice) for f in findings] == [("not-yet-valid", "That is fine: the change is made after that.")]
    assert not read_submission(northwind, make_pem("NOW", not_before=NOW), now=NOW).findings
    assert submit_new(northwind, later).is_new


def test_the_certificate_in_use_is_recognised(northwind: Partner, old: PartnerCertificate) -> None:
    with pytest.raises(SubmissionRefused, match="the certificate that you use with us already"):
        submit_new(northwind, pki.to_pem(old.certificate))


def test_our_own_certificate_is_recognised(company: Company, northwind: Partner) -> None:
    assert company.new.private_key is not None
    with pytest.raises(SubmissionRefused, match="a certificate of ours, not of yours"):
        submit_new(northwind, pki.to_pem(company.new.certificate))


def test_another_partners_certificate_is_refused_without_naming_the_partner(
    company: Company, northwind: Partner, fabrikam: Partner
) -> None:
    theirs = put_in_use(company, fabrikam, days=300)
    key = make_pair("FABRIKAM", not_before=NOW - timedelta(days=1), not_after=NOW + timedelta(days=300))[1]
    for data in (pki.to_pem(theirs.certificate), make_pem("SAME-KEY", key=key)):
        with pytest.raises(SubmissionRefused, match="belongs to another station than yours") as refused:
            submit_new(northwind, data)
        assert "Fabrikam" not in str(refused.value)
    fabrikam.archived_at = NOW
    fabrikam.save()
    assert "Fabrikam" not in str(read_submission(northwind, pki.to_pem(theirs.certificate), now=NOW).findings)


def test_its_own_test_station_may_have_the_same(company: Company, northwind: Partner, fabrikam: Partner) -> None:
    theirs = put_in_use(company, fabrikam, days=300)
    Partner.objects.filter(pk=fabrikam.pk).update(environment="test")
    northwind.rehearsal_partner = fabrikam
    northwind.save()
    (finding,) = read_submission(northwind, pki.to_pem(theirs.certificate), now=NOW).findings
    assert finding.reason == "Your test station uses this certificate, or its key, too."


def test_an_archived_partner_can_not_submit(northwind: Partner) -> None:
    link = link_to(northwind)
    northwind.archived_at = NOW
    northwind.save()
    with pytest.raises(SubmissionRefused, match="We no longer exchange messages with this station"):
        submit_new(northwind, link=link)


def test_what_it_is_for_comes_from_its_key_usages(northwind: Partner) -> None:
    signing = make_pem("SIGNS", usages=("digital_signature",))
    assert read_submission(northwind, signing, now=NOW).roles == ("verify",)
    assert read_submission(northwind, make_pem("ENCRYPTS", usages=("key_encipherment",)), now=NOW).roles == ("encrypt",)
    assert read_submission(northwind, make_pem("ALL", usages=None), now=NOW).roles == BOTH
    with pytest.raises(SubmissionRefused, match="and encryption needs keyEncipherment: use a certificate"):
        read_submission(northwind, signing, roles=BOTH, now=NOW)


def test_an_elliptic_key_is_refused_for_encryption_in_the_partners_terms(northwind: Partner) -> None:
    elliptic: Any = generate_private_key(SECP256R1())
    with pytest.raises(SubmissionRefused, match=r"for encryption AS2 systems need RSA: use .* for this use"):
        read_submission(northwind, make_pem("EC", key=elliptic, usages=None), now=NOW)


def test_an_older_one_is_warned_of(northwind: Partner) -> None:
    (finding,) = read_submission(northwind, make_pem("OLDER", days=19), now=NOW).findings
    assert finding.code == "ends-before-predecessor"


# Accepting.


def test_accepting_records_with_whom_and_how(company: Company, northwind: Partner) -> None:
    (handed,) = submit_new(northwind).rows
    accept_submission(handed, company, note="the number in the contract")
    assert (handed.accepted, handed.settled_at, handed.settled_by) == (True, NOW, "Alice")
    assert (handed.spoke_with, handed.channel) == ("Nora North", "telephone")
    entry = Entry.objects.about(handed.certificate).get(verb="certificate.accepted")
    assert entry.new == {"spoke with": "Nora North", "over": "telephone"}
    assert (entry.reason, entry.actor_name) == ("the number in the contract", "Alice")
    assert only(northwind).state == "draft"
    assert handed.certificate.sha256 not in dict(serving(northwind)).values()


@pytest.mark.parametrize("spelling", ["plain", "colons", "spaces and words"])
def test_any_spelling_of_the_fingerprint_matches(company: Company, northwind: Partner, spelling: str) -> None:
    (handed,) = submit_new(northwind).rows
    digits = handed.certificate.sha256
    spelled = {
        "plain": digits.upper(),
        "colons": pki.format_fingerprint(digits),
        "spaces and words": f"SHA-256 Fingerprint: {digits[:30]} {digits[30:]}",
    }[spelling]
    accept_submission(handed, company, fingerprint=spelled)
    assert handed.accepted


def test_another_fingerprint_accepts_nothing(company: Company, northwind: Partner, old: PartnerCertificate) -> None:
    (handed,) = submit_new(northwind).rows
    for said, why in (
        (old.sha256, "the certificate that Northwind uses now"),
        (company.new.sha256, "somebody else handed this one in: refuse it"),
    ):
        with pytest.raises(ActionRefused, match=why):
            accept_submission(handed, company, fingerprint=said)
    for said in (handed.certificate.sha1, handed.certificate.sha256[:-2], "", "yes, it matches"):
        with pytest.raises(pki.PkiError):
            accept_submission(handed, company, fingerprint=said)
    for missing in ("spoke_with", "channel"):
        with pytest.raises(ActionRefused, match="Say with whom"):
            accept_submission(handed, company, **{missing: " "})
    assert HandedIn.objects.pending().count() == 1


def test_it_is_settled_once(company: Company, northwind: Partner) -> None:
    (handed,) = submit_new(northwind).rows
    stale = HandedIn.objects.get()
    accept_submission(handed, company)
    with pytest.raises(ActionRefused, match="was accepted already, by Alice on 23 Nov 2026"):
        accept_submission(handed, company)
    with pytest.raises(ActionRefused, match="was accepted already"):
        refuse(handed, reason="No", by=company.by, now=NOW)
    with pytest.raises(EditConflict):
        accept_submission(stale, company)


def check_step(rotation: Rotation) -> Any:
    return rotation.steps.get(act="check")


def test_accepted_before_the_plan_is_approved_it_is_checked_at_once(company: Company, northwind: Partner) -> None:
    (handed,) = submit_new(northwind).rows
    accept_submission(handed, company)
    rotation = approved(only(northwind), company)
    step = check_step(rotation)
    assert step.state == "done"
    assert step.note == "Alice compared it with Nora North (telephone) on 23 Nov 2026"
    assert not rotation.steps.get(act="stage").blocked


def test_approved_before_it_was_compared_nothing_is_set_up_until_then(company: Company, northwind: Partner) -> None:
    (handed,) = submit_new(northwind).rows
    rotation = approved(only(northwind), company)
    assert check_step(rotation).state == "waiting"
    assert rotation.steps.get(act="stage").blocked
    accept_submission(handed, company)
    assert check_step(rotation).state == "done"
    assert not rotation.steps.get(act="stage").blocked


def test_a_statement_alone_does_not_settle_the_check(company: Company, northwind: Partner) -> None:
    (handed,) = submit_new(northwind).rows
    step = check_step(approved(only(northwind), company))
    with pytest.raises(ActionRefused, match="Compare its fingerprint with Northwind over another channel"):
        step_actions.complete_step(step, note="looks fine", by=company.by, now=NOW)
    with pytest.raises(ActionRefused, match="Compare its fingerprint"):
        step_actions.skip_step(step, reason="in a hurry", by=company.by, now=NOW)
    accept_submission(handed, company)
    assert check_step(only(northwind)).state == "done"


def test_a_certificate_uploaded_by_our_people_is_checked_by_hand(
    company: Company, northwind: Partner, old: PartnerCertificate
) -> None:
    material = read_submission(northwind, make_pem(), now=NOW).material
    new = single_import.store_certificate(northwind, material, roles=BOTH, by=company.by, now=NOW)
    rotation = approved(create_draft(northwind, DraftSpec(BOTH, old, new), by=company.by, now=NOW), company)
    step_actions.complete_step(check_step(rotation), note="called", by=company.by, now=NOW)
    assert check_step(rotation).state == "done"
    # Handed in afterwards, it counts as compared.
    (handed,) = submit_new(northwind).rows
    assert (handed.accepted, handed.rotation) == (True, rotation)
    assert handed.note == "compared before it was handed in: called"


def test_reading_it_out_on_the_telephone_accepts_it_too(company: Company, northwind: Partner) -> None:
    (handed,) = submit_new(northwind).rows
    rotation = approved(only(northwind), company)
    participant = Participant.objects.get(rotation=rotation)

    def read_out(answer: PartnerAnswer) -> None:
        record_answer(participant, answer, fingerprint=handed.certificate.sha256, installed=False, agreed=False)

    read_out(PartnerAnswer("", by=NORA, now=NOW, another_channel=False))
    assert check_step(rotation).state == "waiting"
    assert HandedIn.objects.pending().exists()
    read_out(PartnerAnswer("Nora", by=company.by, now=NOW))
    handed.refresh_from_db()
    assert (handed.accepted, handed.spoke_with, handed.settled_by) == (True, "Nora", "Alice")
    assert check_step(rotation).state == "done"


def test_kept_and_accepted_it_is_checked_in_the_rotation_that_takes_it_later(
    company: Company, northwind: Partner, old: PartnerCertificate
) -> None:
    submit_new(northwind, make_pem("FIRST"))
    (handed,) = submit_new(northwind, make_pem("SECOND")).rows
    accept_submission(handed, company)
    endings.cancel(only(northwind), reason="The other one", by=company.by, now=NOW)
    later = create_draft(northwind, DraftSpec(BOTH, old, handed.certificate), by=company.by, now=NOW)
    assert check_step(approved(later, company)).state == "done"


# By rule.


def trusted(partner: Partner, company: Company) -> Link:
    """Confirm a partner's contact, enable its rule, and create a link afterwards."""
    contact = partner.contacts.get()
    contacts.confirm(contact, how="called", by=company.by, now=NOW)
    Partner.objects.filter(pk=partner.pk).update(accept_by_rule=True)
    partner.refresh_from_db()
    return link_to(partner, contact)


def test_the_rule_accepts_what_comes_by_the_link_of_a_confirmed_contact(company: Company, northwind: Partner) -> None:
    northwind.owners.add(company.alice)
    (handed,) = submit_new(northwind, link=trusted(northwind, company)).rows
    assert (handed.accepted, handed.channel, handed.settled_by) == (True, "by rule", "AS2 Certs")
    assert handed.note == ("by the rule of Northwind: it came by the link of Nora North, who had been confirmed before")
    assert Entry.objects.about(northwind).filter(verb="certificate.accepted_by_rule").count() == 1
    assert "counts as compared" in Message.objects.get(kind="handed_in").text
    rotation = approved(only(northwind), company)
    assert check_step(rotation).note == f"accepted on 23 Nov 2026: {handed.note}"


@pytest.mark.parametrize(
    "why_not",
    ["no rule", "confirmed after", "taken back", "another address", "left", "without a contact", "one of us"],
)
def test_the_rule_accepts_nothing_else(company: Company, northwind: Partner, why_not: str) -> None:
    contact = northwind.contacts.get()
    before = link_to(northwind, contact)
    link, by = trusted(northwind, company), NORA
    match why_not:
        case "no rule":
            northwind.accept_by_rule = False
        case "confirmed after":
            link = before
        case "taken back":
            contact.refresh_from_db()
            contacts.withdraw_confirmation(contact, reason="Another Nora", by=company.by, now=NOW)
        case "another address":
            contact.refresh_from_db()
            contact.forget_address()
            contact.save()
        case "left":
            contact.delete()
        case "without a contact":
            link = link_to(northwind)
        case "one of us":
            by = Actor("Alice, by the link of Nora", "portal", company.alice)
    link.refresh_from_db()
    (handed,) = submit_new(northwind, link=link, by=by).rows
    assert handed.accepted is None


# Refusing.


def test_a_refused_certificate_leaves_the_draft_waiting(
    company: Company, northwind: Partner, old: PartnerCertificate
) -> None:
    (handed,) = submit_new(northwind).rows
    refuse(handed, reason="Nobody there knows of it", by=company.by, now=NOW)
    assert (handed.accepted, handed.note) == (False, "Nobody there knows of it")
    rotation = only(northwind)
    assert (rotation.state, rotation.new, rotation.old) == ("draft", None, old)
    with pytest.raises(SubmissionRefused, match="We did not accept this certificate on 23 Nov 2026: call us"):
        submit_new(northwind)
    (another,) = submit_new(northwind, make_pem("NORTHWIND-3")).rows
    assert (only(northwind), only(northwind).new) == (rotation, another.certificate)


def test_a_refused_one_cancels_what_was_approved(company: Company, northwind: Partner) -> None:
    (handed,) = submit_new(northwind).rows
    rotation = approved(only(northwind), company)
    refuse(handed, reason="Nobody there knows of it", by=company.by, now=NOW)
    rotation.refresh_from_db()
    assert rotation.state == "cancelled"
    assert not rotation.steps.filter(state="waiting").exists()


def test_refusing_requires_a_reason_and_may_revoke_the_link(company: Company, northwind: Partner) -> None:
    (handed,) = submit_new(northwind).rows
    with pytest.raises(ActionRefused, match="Say why"):
        refuse(handed, reason=" ", by=company.by, now=NOW)
    refuse(handed, reason="A stranger", withdraw=True, by=company.by, now=NOW)
    assert handed.link is not None
    handed.link.refresh_from_db()
    assert handed.link.revoked_at == NOW


# Whom to call.


def test_only_people_known_before_the_link_are_to_be_called(company: Company, northwind: Partner) -> None:
    nora = northwind.contacts.get()
    early = NOW - timedelta(days=3)
    link = link_to(northwind, nora, now=early)
    for name in ("Named", "Added", "Moved"):
        northwind.contacts.create(name=name, email=f"{name}@x.example", phone="+1", suggested_by="Nora")
    named, added, moved = northwind.contacts.exclude(pk=nora.pk).order_by("id")
    contacts.accept_suggestion(named, by=company.by, now=early + SECOND)
    contacts.accept_suggestion(moved, by=company.by, now=early - SECOND)
    for contact, verb, new in (
        (moved, "contact.changed", {"phone": "+2"}),
        (nora, "contact.changed", {"notes": "on leave"}),
    ):
        record(AuditEvent(verb, contact, new=new), by=company.by, now=NOW)
    (handed,) = submit_new(northwind, link=link).rows
    found = contacts_by_age(handed)
    assert (found.before, set(found.since)) == ([nora], {named, moved})
    assert added not in [*found.before, *found.since]
