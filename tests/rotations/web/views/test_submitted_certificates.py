"""Submitted certificates on the operators' pages: comparing, accepting, refusing."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from as2certs import pki
from partners.models import Contact, Partner
from rotations.lifecycle.drafts import DraftSpec, change_draft
from rotations.models import HandedIn, Rotation
from tests.rotations.company import NOW, Company, window
from tests.rotations.exchange.incoming import make_pem, put_in_use, submit_new
from tests.rotations.pages import STARTS, get_page, page_text, post_approval, post_form, stored_state


@pytest.fixture
def northwind(company: Company) -> Partner:
    partner = company.partners[1]
    Contact.objects.create(partner=partner, name="Nora North", email="nora@x.example", phone="+1 312 555 0100")
    put_in_use(company, partner)
    return partner


@pytest.fixture
def handed(northwind: Partner) -> HandedIn:
    (row,) = submit_new(northwind).rows
    return row


def answers(handed: HandedIn, **given: Any) -> dict[str, Any]:
    return {
        "fingerprint": pki.format_fingerprint(handed.certificate.sha256),
        "spoke_with": "Nora North",
        "channel": "telephone",
        "note": "the number in the contract",
        **given,
    }


def compare(client: Client, handed: HandedIn, **given: Any) -> Any:
    return post_form(client, "handed-in-accept", handed.uid, **answers(handed, **given))


def test_the_page_shows_both_certificates_the_fingerprint_and_the_contacts(operator: Client, handed: HandedIn) -> None:
    shown = page_text(get_page(operator, "handed-in-accept", handed.uid))
    assert "Compare with Northwind" in shown
    assert pki.format_fingerprint(handed.certificate.sha256) in shown.replace("<wbr>", "")
    assert "Nora North" in shown
    assert "+1 312 555 0100" in shown
    assert "not compared yet" in shown
    assert "In use, and handed in" in shown


def test_accepting_redirects_to_the_draft(operator: Client, handed: HandedIn) -> None:
    answer = compare(operator, handed)
    rotation = Rotation.objects.get()
    assert answer["Location"] == rotation.get_absolute_url()
    handed.refresh_from_db()
    assert (handed.accepted, handed.settled_by, handed.note) == (True, "olivia", "the number in the contract")
    shown = page_text(get_page(operator, "handed-in-accept", handed.uid))
    assert "olivia compared it with Nora North (telephone) on 23 Nov 2026" in shown
    assert "accept this certificate" not in shown


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"fingerprint": ""}, "Type in what they read out: that is the comparison."),
        ({"fingerprint": "AB:CD"}, "some are missing"),
        ({"spoke_with": ""}, "Say with whom"),
        ({"channel": ""}, "Say over which channel"),
        ({"channel": "by rule"}, "Select a valid choice"),
        ({"fingerprint": "ab" * 32}, "That is not the fingerprint of what was handed in"),
    ],
)
def test_a_mismatch_accepts_nothing_and_keeps_the_input(
    operator: Client, handed: HandedIn, given: dict[str, str], expected: str
) -> None:
    answer = compare(operator, handed, **given)
    assert answer.status_code == 422
    assert expected in page_text(answer)
    assert "the number in the contract" in page_text(answer)
    assert HandedIn.objects.pending().exists()


def test_a_settled_submission_is_not_accepted_again(operator: Client, handed: HandedIn) -> None:
    compare(operator, handed)
    for answer in (
        compare(operator, handed),
        post_form(operator, "handed-in-refuse", handed.uid, reason="No"),
    ):
        assert answer.status_code == 422
        assert "This certificate was accepted already, by olivia on 23 Nov 2026." in page_text(answer)


def test_refusing_requires_a_reason(operator: Client, handed: HandedIn) -> None:
    shown = page_text(get_page(operator, "handed-in-refuse", handed.uid))
    assert "The draft waits for another certificate." in shown
    assert post_form(operator, "handed-in-refuse", handed.uid, reason="").status_code == 422
    answer = post_form(operator, "handed-in-refuse", handed.uid, reason="Nobody knows of it", withdraw="on")
    assert answer["Location"] == handed.certificate.get_absolute_url()
    handed.refresh_from_db()
    assert handed.link is not None
    assert (handed.accepted, handed.link.revoked_at) == (False, NOW)


def test_choosing_a_refused_certificate_is_a_task(operator: Client, company: Company, handed: HandedIn) -> None:
    post_form(operator, "handed-in-refuse", handed.uid, reason="Nobody there knows of it")
    rotation = Rotation.objects.get()
    assert "refused this certificate" not in page_text(operator.get(rotation.get_absolute_url()))
    spec = DraftSpec(roles=("verify", "encrypt"), old=rotation.old, new=handed.certificate)
    change_draft(rotation, spec, by=company.by, now=NOW)
    shown = page_text(operator.get(rotation.get_absolute_url()))
    assert "olivia refused this certificate when it was handed in." in shown
    assert "Nobody there knows of it" in shown


def test_only_operators_decide(viewer: Client, approver: Client, handed: HandedIn) -> None:
    for client in (viewer, approver):
        assert get_page(client, "handed-in-accept", handed.uid).status_code == 403
        assert compare(client, handed).status_code == 403
        assert post_form(client, "handed-in-refuse", handed.uid, reason="No").status_code == 403
    assert HandedIn.objects.pending().exists()


@pytest.mark.parametrize("where", ["draft", "home", "partner", "certificate"])
def test_a_pending_comparison_is_shown_wherever_it_matters(operator: Client, handed: HandedIn, where: str) -> None:
    address = {
        "draft": Rotation.objects.get().get_absolute_url(),
        "home": reverse("home"),
        "partner": handed.partner.get_absolute_url(),
        "certificate": handed.certificate.get_absolute_url(),
    }[where]
    expected = {
        "draft": "nobody has compared its fingerprint yet",
        "home": "Northwind handed in a new certificate, not compared yet",
        "partner": "nobody has compared its fingerprint yet",
        "certificate": "not compared yet",
    }[where]
    before = page_text(operator.get(address))
    assert expected in before
    assert handed.get_absolute_url() in before
    compare(operator, handed)
    assert expected not in page_text(operator.get(address))


def test_a_second_submission_is_shown_at_the_rotation_and_starts_the_next(
    operator: Client, company: Company, northwind: Partner, handed: HandedIn
) -> None:
    (kept,) = submit_new(northwind, make_pem("SECOND")).rows
    rotation = Rotation.objects.get()
    assert "Another certificate for this was handed in meanwhile." in page_text(
        operator.get(rotation.get_absolute_url())
    )
    shown = page_text(get_page(operator, "handed-in-accept", kept.uid))
    assert "already changes verify and encrypt, so nothing was set up with this one" in shown
    answer = compare(operator, kept)
    assert answer["Location"] == kept.certificate.get_absolute_url()
    Rotation.objects.update(state="cancelled", ended_at=NOW)
    shown = page_text(get_page(operator, "handed-in-accept", kept.uid))
    assert f"new={kept.certificate.uid}" in shown


def test_a_draft_can_be_approved_before_the_comparison(
    operator: Client, approver: Client, company: Company, handed: HandedIn
) -> None:
    rotation = Rotation.objects.get()
    spec = DraftSpec(roles=("verify", "encrypt"), old=rotation.old, new=rotation.new, window=window(STARTS))
    change_draft(rotation, spec, by=company.by, now=NOW)
    rotation = Rotation.objects.get()
    assert post_approval(approver, rotation).status_code == 302
    assert stored_state(rotation) == "exchanging"
    assert "nobody has compared its fingerprint yet" in page_text(operator.get(rotation.get_absolute_url()))
    step = rotation.steps.get(act="check")
    answer = post_form(operator, "rotation-step-done", step.uid, note="looks fine")
    assert answer.status_code == 422
    assert "The certificate came by a link." in page_text(answer)
    compare(operator, handed)
    step.refresh_from_db()
    assert step.state == "done"


def test_a_test_station_is_marked(operator: Client, handed: HandedIn) -> None:
    Partner.objects.filter(pk=handed.partner_id).update(environment="test")
    for name in ("handed-in-accept", "handed-in-refuse"):
        assert "This page shows a test environment." in page_text(get_page(operator, name, handed.uid))
