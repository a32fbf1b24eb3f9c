"""Messages with a certificate that no approved rotation knows yet: our people are asked to act, and nothing is lost."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from as2certs import pki
from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from identities.certificates import single_import
from identities.models import IdentityCertificate
from partners.models import Contact, Partner, PartnerCertificate
from rotations.exchange.submitted_certificates import FingerprintComparison, accept, read_submission, refuse
from rotations.execution import transitions
from rotations.lifecycle import approval, drafts
from rotations.lifecycle.evidence.changeover import ObservedMessage, dismiss_sighting, record_sighting
from rotations.models import HandedIn, Participant, Rotation, Sighting
from rotations.notifications import mail_checks
from rotations.planning.states import StepAction
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, make_company, make_draft, window
from tests.rotations.exchange.incoming import BOTH, make_pem, put_in_use, submit_new
from tests.rotations.pages import STARTS, get_page, page_text

pytestmark = pytest.mark.django_db

COMPARE = "Northwind already signs with a certificate that you have not compared"


@pytest.fixture
def company(db: None) -> Company:
    company = make_company()
    for partner in company.partners:
        Contact.objects.create(partner=partner, name="Nora North", email=f"nora@{partner.name.lower()}.example")
    return company


@pytest.fixture
def northwind(company: Company) -> Partner:
    """Northwind with a certificate in use; Alice owns it."""
    partner = Partner.objects.get(name="Northwind")
    partner.owners.add(company.alice)
    put_in_use(company, partner)
    return partner


@pytest.fixture
def handed(northwind: Partner) -> HandedIn:
    """A certificate that Northwind handed in, and that nobody has compared."""
    (row,) = submit_new(northwind).rows
    return row


@pytest.fixture
def operator(company: Company, monkeypatch: pytest.MonkeyPatch) -> Client:
    """An operator who looks at home now, while what is remembered is not too old to be shown."""
    monkeypatch.setattr("as2certs.site.views.database_now", lambda: NOW)
    return log_in(make_person("olga", "operator"))


def sees(
    company: Company,
    partner: Partner,
    certificate: PartnerCertificate | IdentityCertificate,
    *,
    use: str = "signed",
    sha256: str = "",
) -> Sighting:
    message = ObservedMessage(use, certificate.serial, NOW - timedelta(minutes=5), sha256=sha256)
    return record_sighting(partner, message, by=company.by, now=NOW)


def mails() -> list[str]:
    rows = Message.objects.filter(kind="early_evidence").order_by("id")
    return [" ".join(text.split()) for text in rows.values_list("text", flat=True)]


def approved(rotation: Rotation, company: Company) -> Rotation:
    wish = drafts.DraftSpec(tuple(rotation.roles), rotation.old, rotation.new, window=window(STARTS))
    drafts.change_draft(rotation, wish, by=company.by, now=NOW)
    return approval.approve(rotation, by=company.approver, now=NOW)


def compare(handed: HandedIn, company: Company) -> None:
    answer = FingerprintComparison(handed.certificate.sha256, "Nora North", "telephone", "")
    accept(handed, answer, by=company.by, now=NOW)


def uploaded(company: Company, partner: Partner) -> PartnerCertificate:
    material = read_submission(partner, make_pem(), now=NOW).material
    return single_import.store_certificate(partner, material, roles=BOTH, by=company.by, now=NOW)


def home(client: Client) -> str:
    return page_text(client.get(reverse("home")))


def test_a_certificate_that_nobody_has_compared_is_to_be_compared_now(
    company: Company, northwind: Partner, handed: HandedIn, operator: Client
) -> None:
    sighting = sees(company, northwind, handed.certificate)
    assert (sighting.verdict, sighting.participant) == ("ahead", None)
    (mail,) = mails()
    assert f"{COMPARE}: compare it now." in mail
    assert handed.get_absolute_url() in mail
    assert Message.objects.get(kind="early_evidence").to_address == company.alice.email
    assert COMPARE in home(operator)
    assert "handed in a new certificate, not compared yet" not in home(operator)
    for name, uid in (("partner-detail", northwind.uid), ("rotation-detail", northwind.rotations.get().uid)):
        assert f"{COMPARE}: compare it now." in page_text(get_page(operator, name, uid)), name


def test_one_certificate_is_mailed_about_once(company: Company, northwind: Partner, handed: HandedIn) -> None:
    sees(company, northwind, handed.certificate)
    sees(company, northwind, handed.certificate)
    assert len(mails()) == 1


def test_it_is_remembered_and_applied_when_it_is_compared_and_approved(
    company: Company, northwind: Partner, handed: HandedIn, operator: Client
) -> None:
    sighting = sees(company, northwind, handed.certificate)
    compare(handed, company)
    assert COMPARE not in home(operator)
    draft = northwind.rotations.get()
    assert "its rotation is still a draft: approve it now" in home(operator)
    assert "its rotation is still a draft: approve it now" in page_text(
        get_page(operator, "rotation-detail", draft.uid)
    )
    rotation = approved(draft, company)
    sighting.refresh_from_db()
    participant = Participant.objects.get(rotation=rotation)
    assert (sighting.verdict, sighting.participant) == ("new", participant)
    assert participant.migrated_at == sighting.at
    assert "signs with" not in home(operator)
    assert Entry.objects.filter(verb="partner.seen_early").count() == 1
    install = rotation.steps.get(act="install", participant=participant)
    assert (install.state, install.note) == ("done", sighting.text)
    for step in rotation.steps.filter(act__in=("stage", "announce")):
        transitions.settle_step(step, StepAction.COMPLETE_BY_HAND, by=company.by, now=NOW, note="loaded")
    step = rotation.steps.get(act="partner_cut_over", participant=participant)
    assert (step.state, step.blocked) == ("done", False)
    assert step.note == sighting.text


def test_approved_before_it_was_compared_it_asks_for_the_comparison(
    company: Company, northwind: Partner, handed: HandedIn, operator: Client
) -> None:
    rotation = approved(northwind.rotations.get(), company)
    sighting = sees(company, northwind, handed.certificate)
    assert sighting.verdict == "new"
    (mail,) = mails()
    assert f"{COMPARE}: compare it now." in mail
    assert f"{COMPARE}: compare it now." in page_text(get_page(operator, "rotation-detail", rotation.uid))
    compare(handed, company)
    assert COMPARE not in page_text(get_page(operator, "rotation-detail", rotation.uid))


def test_a_comparison_by_hand_is_asked_for_too(company: Company, northwind: Partner, operator: Client) -> None:
    old, new = northwind.certificates.get(), uploaded(company, northwind)
    draft = drafts.create_draft(northwind, drafts.DraftSpec(BOTH, old, new), by=company.by, now=NOW)
    rotation = approved(draft, company)
    sees(company, northwind, new)
    assert f"{COMPARE}: compare it now." in mails()[0]
    assert f"{COMPARE}: compare it now." in page_text(get_page(operator, "rotation-detail", rotation.uid))


def test_a_certificate_without_a_rotation_asks_for_one_and_waits_for_it(
    company: Company, northwind: Partner, operator: Client
) -> None:
    old, new = northwind.certificates.get(), uploaded(company, northwind)
    sighting = sees(company, northwind, new)
    words = f"Northwind already signs with {new.short_name}, which no rotation puts into service: start one now"
    assert words in mails()[0]
    assert words in home(operator)
    draft = drafts.create_draft(northwind, drafts.DraftSpec(BOTH, old, new), by=company.by, now=NOW)
    approved(draft, company)
    sighting.refresh_from_db()
    assert sighting.verdict == "new"
    assert words not in home(operator)


def test_a_refused_certificate_in_use_is_named_as_refused(
    company: Company, northwind: Partner, handed: HandedIn
) -> None:
    refuse(handed, reason="Not theirs", by=company.by, now=NOW)
    sees(company, northwind, handed.certificate)
    assert f"already signs with {handed.certificate.short_name}, which was refused when it was handed in" in mails()[0]


def test_an_unknown_certificate_is_named_by_issuer_serial_and_fingerprint(
    company: Company, northwind: Partner, operator: Client
) -> None:
    shown = operator.post(
        reverse("partner-seen", args=[northwind.uid]),
        {
            "use": "signed",
            "serial": "0x1A2B",
            "issuer": "CN=Northwind CA 7, O=Northwind",
            "sha256": "AB" * 32,
            "day": "2026-11-20",
            "time": "10:00",
        },
        follow=True,
    )
    known = f"serial number 1A:2B, issued by CN=Northwind CA 7, O=Northwind, SHA-256 {':'.join(['AB'] * 32)}"
    sentence = f"Northwind signs with a certificate that is not here ({known}): ask for it, and upload it"
    assert f"Noted. {sentence}" in page_text(shown)
    assert Sighting.objects.get().verdict == "unknown"
    assert sentence in mails()[0]
    assert Entry.objects.get(verb="partner.seen").new["certificate"] == known
    assert known in page_text(get_page(operator, "partner-detail", northwind.uid))


def test_what_is_no_fingerprint_is_refused_and_stays_in_the_form(northwind: Partner, operator: Client) -> None:
    data = {"use": "signed", "serial": "1A2B", "sha256": "12:34", "day": "2026-11-20", "time": "10:00"}
    shown = operator.post(reverse("partner-seen", args=[northwind.uid]), data)
    assert shown.status_code == 422
    assert "12:34" in shown.content.decode()
    assert not Sighting.objects.exists()


def test_the_fingerprint_tells_certificates_with_one_serial_number_apart(
    company: Company, northwind: Partner, handed: HandedIn
) -> None:
    assert sees(company, northwind, handed.certificate, sha256="AB" * 32).verdict == "unknown"
    compare(handed, company)
    approved(northwind.rotations.get(), company)
    assert not Sighting.objects.filter(verdict="new").exists()
    whole = pki.format_fingerprint(handed.certificate.sha256)
    assert sees(company, northwind, handed.certificate, sha256=whole).verdict == "new"


def test_the_certificate_in_use_asks_for_nothing(company: Company, northwind: Partner, operator: Client) -> None:
    assert sees(company, northwind, northwind.certificates.get()).verdict == "other"
    assert mails() == []
    assert "already signs with" not in home(operator)


def test_our_certificate_of_a_draft_that_a_partner_encrypts_to_asks_for_approval(
    company: Company, northwind: Partner, operator: Client
) -> None:
    draft = make_draft(company, starts=STARTS)
    sighting = sees(company, northwind, company.new, use="encrypted")
    assert sighting.verdict == "ahead"
    words = "Northwind already encrypts to the new certificate, and its rotation is still a draft: approve it now"
    assert words in mails()[0]
    assert words in page_text(get_page(operator, "rotation-detail", draft.uid))
    approval.approve(draft, by=company.approver, now=NOW)
    sighting.refresh_from_db()
    assert sighting.participant == draft.participants.get(partner=northwind)


# Dismissed, and misread


def unknown(company: Company, partner: Partner) -> Sighting:
    message = ObservedMessage("signed", "4711", NOW - timedelta(minutes=5))
    return record_sighting(partner, message, by=company.by, now=NOW)


def test_an_unknown_certificate_is_dismissed_with_a_reason(
    company: Company, northwind: Partner, operator: Client
) -> None:
    sighting = unknown(company, northwind)
    url = reverse("sighting-dismiss", args=[sighting.uid])
    Sighting.objects.update(noted_at=timezone.now())
    assert url in operator.get(reverse("home")).content.decode()
    assert url in operator.get(northwind.get_absolute_url()).content.decode()
    assert operator.post(url, {"reason": " "}).status_code == 422
    assert operator.get(url).status_code == 200
    sighting.refresh_from_db()
    assert sighting.dismissed_at is None

    assert operator.post(url, {"reason": "Their test system"}).status_code == 302
    for page in (reverse("home"), northwind.get_absolute_url()):
        text = operator.get(page).content.decode()
        assert "a certificate that is not here" not in text
    entry = Entry.objects.get(verb="partner.seen_dismissed")
    assert entry.reason == "Their test system"
    assert "1267" in entry.new["certificate"].replace(":", "")  # 4711 in hex
    mail = Message.objects.filter(kind="early_evidence").latest("pk")
    assert mail_checks.find_withdrawal(mail, NOW) is not None
    assert operator.post(url, {"reason": "Again"}).status_code == 422

    # Another message with it is a new fact.
    Sighting.objects.filter(pk=unknown(company, northwind).pk).update(noted_at=timezone.now())
    assert "a certificate that is not here" in operator.get(reverse("home")).content.decode()


def test_who_may_not_note_messages_may_not_dismiss_them(company: Company, northwind: Partner) -> None:
    sighting = unknown(company, northwind)
    viewer = log_in(make_person("vera", "viewer"))
    assert viewer.post(reverse("sighting-dismiss", args=[sighting.uid]), {"reason": "No"}).status_code == 403
    sighting.refresh_from_db()
    assert sighting.dismissed_at is None


def test_a_dismissed_message_still_counts_when_its_certificate_comes_into_service(
    company: Company, northwind: Partner
) -> None:
    draft = make_draft(company, starts=STARTS)
    sighting = sees(company, northwind, company.new, use="encrypted")
    dismiss_sighting(sighting, reason="They only test", by=company.by, now=NOW)
    approval.approve(draft, by=company.approver, now=NOW)
    sighting.refresh_from_db()
    assert sighting.participant == draft.participants.get(partner=northwind)


def test_our_own_certificate_noted_as_theirs_is_said_to_be_ours(
    company: Company, northwind: Partner, operator: Client
) -> None:
    sighting = sees(company, northwind, company.old)
    evidence = sighting.early_evidence()
    assert evidence is not None
    assert "That is our own certificate" in evidence.sentence
    assert "check the message, and note it again" in evidence.sentence
    assert evidence.url == reverse("partner-seen", args=[northwind.uid])
    assert mails() == []  # whoever noted it reads it at once


def test_their_own_certificate_noted_as_ours_is_said_to_be_theirs(company: Company, northwind: Partner) -> None:
    theirs = PartnerCertificate.objects.filter(partner=northwind).latest("pk")
    evidence = sees(company, northwind, theirs, use="encrypted").early_evidence()
    assert evidence is not None
    assert "That is their own certificate" in evidence.sentence
