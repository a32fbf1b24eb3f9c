"""Announcing to partners: previews, and that exactly what was previewed is sent."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from partners.models import Contact, Partner, Partnership
from rotations.errors import ActionRefused, PreviewOutdated
from rotations.exchange import bulk
from rotations.letters import announcements
from rotations.lifecycle import approval, endings, rescheduling
from rotations.models import Letter, Link, Participant, Phrase, Rotation
from rotations.web.views import announcements as views
from tests.capabilities import keeps_both
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, window
from tests.rotations.pages import STARTS, get_page, make_drafted, page_text, post_form

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]


def seen_on(response: Any) -> str:
    """Return the versions of the previews that the page carries."""
    found = re.search(r'name="seen" value="([^"]*)"', response.content.decode())
    assert found
    return found[1]


def announce_to(client: Client, rotation: Rotation, *participants: Participant, seen: str | None = None) -> Any:
    """Preview the mails and send those to these partners."""
    seen = seen_on(get_page(client, "rotation-announce", rotation.uid)) if seen is None else seen
    return post_form(client, "rotation-announce", rotation.uid, seen=seen, partner=[str(p.uid) for p in participants])


def test_all_mails_are_previewed_before_any_is_sent(
    operator: Client, rotation: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    shown = page_text(get_page(operator, "rotation-announce", rotation.uid))
    assert "Send 2 mails to 2 partners" in shown
    assert shown.count('" checked') == 2
    assert "Fay Fisher, fay@fabrikam.example" in shown
    assert reverse("participant-announcement-html", args=[fabrikam.uid]) in shown  # the first is open
    assert f'hx-get="{reverse("participant-announcement", args=[northwind.uid])}"' in shown  # the rest on demand
    assert not Message.objects.exists()


def test_the_preview_equals_the_sent_mail(operator: Client, rotation: Rotation, northwind: Participant) -> None:
    preview = get_page(operator, "participant-announcement", northwind.uid)
    html = get_page(operator, "participant-announcement-html", northwind.uid).content.decode()
    assert "sandbox" in get_page(operator, "participant-announcement-html", northwind.uid)["Content-Security-Policy"]
    assert announce_to(operator, rotation, northwind).status_code == 302
    message = Letter.objects.get().message
    assert message.subject in page_text(preview).replace("&#x27;", "'")
    link = announcements.preview_url(northwind)
    assert html.replace('<base target="_top">', "") == message.html.replace("~~link~~", link)
    northwind.refresh_from_db()
    assert northwind.announced_at == NOW


def test_attachments_can_be_downloaded_from_the_preview(operator: Client, northwind: Participant) -> None:
    shown = page_text(get_page(operator, "participant-announcement", northwind.uid))
    names = re.findall(r"announcement/files/([^/]+)/", shown)
    assert [name.rpartition(".")[2] for name in names] == ["pem", "cer", "zip", "ics"]
    for name in names:
        file = get_page(operator, "participant-announcement-file", northwind.uid, name)
        assert file["Content-Disposition"] == f'attachment; filename="{name}"'
    assert get_page(operator, "participant-announcement-file", northwind.uid, "key.pem").status_code == 404


def test_the_message_counts_mails_and_partners(
    operator: Client, rotation: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    Contact.objects.create(partner=northwind.partner, name="Nils", email="nils@northwind.example")
    assert "Send 3 mails to 2 partners" in page_text(get_page(operator, "rotation-announce", rotation.uid))
    announce_to(operator, rotation, northwind, fabrikam)
    shown = page_text(get_page(operator, "rotation-detail", rotation.uid))
    assert "3 mails to 2 partners will leave within seconds." in shown
    assert Letter.objects.count() == 3
    assert Entry.objects.filter(verb="participant.announced", actor_name="olivia").count() == 2


@pytest.mark.parametrize("change", ["address", "contact", "wording", "window"])
def test_an_outdated_preview_is_shown_again(
    operator: Client,
    company: Company,
    rotation: Rotation,
    northwind: Participant,
    fabrikam: Participant,
    change: str,
) -> None:
    seen = seen_on(get_page(operator, "rotation-announce", rotation.uid))
    match change:
        case "address":
            northwind.partner.contacts.update(email="other@northwind.example")
        case "contact":
            Contact.objects.create(partner=northwind.partner, name="Nils", email="nils@northwind.example")
        case "wording":
            Phrase.objects.create(
                kind="announcement", partner=northwind.partner, subject="New", opening="Hello", closing=""
            )
        case "window":
            later = window(STARTS + timedelta(days=1))
            rescheduling.postpone(
                rotation, rescheduling.WindowChange(later, reason="Stock count"), by=company.by, now=NOW
            )
    response = announce_to(operator, rotation, northwind, fabrikam, seen=seen)
    assert response.status_code == 422
    shown = page_text(response)
    assert "Nothing was sent: some of it is no longer what you looked at." in shown
    what = {
        "address": "who gets it.",
        "contact": "who gets it, its subject, its text.",
        "wording": "its subject, its text.",
        "window": "its subject, its text.",
    }[change]
    assert f"The mail to Northwind is no longer the one that you looked at. What changed: {what}" in shown
    assert ("The mail to Fabrikam is no longer" in shown) == (change == "window")
    assert not Message.objects.exclude(kind="partner_moved").exists()
    # After another look, it can be sent.
    assert announce_to(operator, rotation, northwind, fabrikam, seen=seen_on(response)).status_code == 302
    assert Letter.objects.filter(kind="announcement").count() >= 2


def test_a_change_between_preview_and_sending_is_noticed_under_the_lock(
    company: Company, rotation: Rotation, northwind: Participant
) -> None:
    seen = announcements.build_preview(northwind, now=NOW).version
    northwind.partner.contacts.update(email="other@northwind.example")
    with pytest.raises(PreviewOutdated, match="What changed: who gets it"):
        announcements.announce(northwind, by=company.by, now=NOW, seen=seen)
    with pytest.raises(PreviewOutdated, match="What changed: all of it"):
        announcements.announce(northwind, by=company.by, now=NOW, seen="")
    assert not Message.objects.exists()
    assert announcements.announce(northwind, by=company.by, now=NOW)


def test_a_failure_is_reported_and_does_not_stop_the_others(
    operator: Client,
    rotation: Rotation,
    northwind: Participant,
    fabrikam: Participant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    announce = announcements.announce

    def only_northwind(participant: Participant, **options: Any) -> list[Letter]:
        letters = announce(participant, **options)
        if participant.partner.name == "Fabrikam":
            raise ActionRefused("The mail could not be written.")
        return letters

    monkeypatch.setattr(announcements, "announce", only_northwind)
    announce_to(operator, rotation, northwind, fabrikam)
    shown = page_text(get_page(operator, "rotation-detail", rotation.uid))
    assert "1 mail to 1 partner will leave" in shown
    assert "Fabrikam was not told: The mail could not be written." in shown
    # Its transaction was rolled back.
    assert [letter.partner.name for letter in Letter.objects.all()] == ["Northwind"]
    assert not Link.objects.filter(partner__name="Fabrikam").exists()


def test_partners_left_when_time_is_up_are_reported(
    operator: Client,
    rotation: Rotation,
    northwind: Participant,
    fabrikam: Participant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        views,
        "run_for_each",
        lambda who, do: bulk.run_for_each(who, do, max_seconds=-1),  # no time at all
    )
    response = announce_to(operator, rotation, northwind, fabrikam)
    assert response["Location"] == reverse("rotation-announce", args=[rotation.uid])
    assert "2 partners are still to be told." in page_text(operator.get(response["Location"]))


def test_obstacles_are_shown_with_their_remedies(
    operator: Client, rotation: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    fabrikam.partner.contacts.all().delete()
    northwind.partner.contacts.update(email="")
    shown = page_text(get_page(operator, "rotation-announce", rotation.uid))
    assert "No contact of Fabrikam is known" in shown
    assert reverse("contact-create", args=[fabrikam.partner.uid]) in shown
    assert "No contact of Northwind has an e-mail address" in shown
    assert reverse("contact-update", args=[northwind.partner.contacts.get().uid]) in shown
    assert reverse("participant-share", args=[northwind.uid]) in shown
    assert "Nobody can be told yet." in shown
    assert 'type="submit"' not in shown.partition('<ul class="rows">')[2].partition("</form>")[0]


def test_nobody_is_informed_before_the_key_is_staged(
    operator: Client, rotation: Rotation, northwind: Participant
) -> None:
    rotation.steps.filter(act="stage").update(state="waiting", done_at=None)
    rotation.steps.filter(act="announce").update(blocked=True)
    shown = page_text(get_page(operator, "rotation-announce", rotation.uid))
    assert "Not yet: first “Load" in shown
    assert "Go to the runbook" in shown
    assert announce_to(operator, rotation, northwind).status_code == 302
    assert "Northwind was not told: Not yet: first" in page_text(get_page(operator, "rotation-detail", rotation.uid))
    assert not Message.objects.exists()


def test_a_draft_has_no_mails_yet(operator: Client, company: Company) -> None:
    shown = page_text(get_page(operator, "rotation-announce", make_drafted(company).uid))
    assert "Partners are told once the plan is approved" in shown


def test_a_selection_in_the_table_is_kept_and_nothing_is_sent(
    operator: Client, rotation: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    response = post_form(operator, "rotation-announce", rotation.uid, partner=[str(northwind.uid)])
    assert response.status_code == 200
    shown = page_text(response)
    assert "Send 1 mail to 1 partner" in shown
    assert re.search(rf'id="tell-{northwind.uid}"[^>]* checked', shown)
    assert not re.search(rf'id="tell-{fabrikam.uid}"[^>]* checked', shown)
    assert not Message.objects.exists()


def test_informed_partners_are_not_preselected_but_can_be_selected(
    operator: Client,
    rotation: Rotation,
    northwind: Participant,
    fabrikam: Participant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    announce_to(operator, rotation, northwind, fabrikam)
    shown = page_text(get_page(operator, "rotation-announce", rotation.uid))
    assert "Everybody who can be told has been told." in shown
    assert shown.count("· told ") == 2
    assert '" checked' not in shown
    monkeypatch.setattr(views, "database_now", lambda: NOW + timedelta(minutes=1))
    announce_to(operator, rotation, northwind)
    assert Letter.objects.filter(participant=northwind).count() == 2
    assert Link.objects.alive(NOW).filter(participant=northwind).count() == 2


def test_no_selection_or_an_unknown_partner_sends_nothing(
    operator: Client, rotation: Rotation, northwind: Participant
) -> None:
    assert "Tick at least one partner." in page_text(announce_to(operator, rotation))
    setup_removed = Participant.objects.filter(pk=northwind.pk)
    seen = seen_on(get_page(operator, "rotation-announce", rotation.uid))
    setup_removed.update(removed_reason="Ends in May")
    assert "takes no part any more" in page_text(announce_to(operator, rotation, northwind, seen=seen))
    assert not Message.objects.exists()


@pytest.mark.parametrize("role", ["viewer", "approver"])
def test_only_operators_announce(role: str, rotation: Rotation, northwind: Participant) -> None:
    client = log_in(make_person(f"a {role}", role))
    assert get_page(client, "rotation-announce", rotation.uid).status_code == 403
    assert (
        post_form(client, "rotation-announce", rotation.uid, seen="x", partner=[str(northwind.uid)]).status_code == 403
    )
    assert post_form(client, "participant-to-oneself", northwind.uid).status_code == 403
    assert not Message.objects.exists()


def test_the_user_can_get_a_test_copy(operator: Client, northwind: Participant) -> None:
    shown = post_form(operator, "participant-to-oneself", northwind.uid)
    assert shown["Location"] == reverse("participant-announcement", args=[northwind.uid])
    assert "1 mail on the way to olivia@example.com." in page_text(operator.get(shown["Location"]))
    mine = Message.objects.get()
    assert (mine.to_address, mine.kind) == ("olivia@example.com", "preview")
    assert not Letter.objects.exists()


def test_htmx_gets_only_a_message(operator: Client, northwind: Participant) -> None:
    url = reverse("participant-to-oneself", args=[northwind.uid])
    shown = page_text(operator.post(url, headers={"HX-Request": "true"}))
    assert shown.startswith('<div class="message is-fine"')
    part = operator.get(reverse("participant-announcement", args=[northwind.uid]), headers={"HX-Request": "true"})
    assert "<html" not in part.content.decode()


def test_a_user_without_an_address_gets_an_error(operator: Client, company: Company, northwind: Participant) -> None:
    client = log_in(make_person("nobody", "operator"))
    client.session.save()
    type(company.alice).objects.filter(username="nobody").update(email="")
    post_form(client, "participant-to-oneself", northwind.uid)
    assert "Your account has no e-mail address" in page_text(
        get_page(client, "participant-announcement", northwind.uid)
    )


def test_an_unknown_placeholder_stops_the_announcement(
    operator: Client, rotation: Rotation, northwind: Participant
) -> None:
    Phrase.objects.create(kind="announcement", subject="{nonsense}", opening="x", closing="")
    response = get_page(operator, "rotation-announce", rotation.uid)
    assert response.status_code == 302
    assert "Mend the wording first." in page_text(operator.get(response["Location"]))
    assert get_page(operator, "participant-announcement", northwind.uid).status_code == 404


def many(company: Company, number: int) -> Rotation:
    """Return an approved rotation with more partners, who can be informed now."""
    for n in range(number):
        partner = Partner.objects.create(name=f"P{n:03}", as2_id=f"P{n:03}", **keeps_both("yes"), time_zone="UTC")
        Partnership.objects.create(identity=company.identity, partner=partner)
        Contact.objects.create(partner=partner, name="Ann", email=f"ann@p{n:03}.example")
    rotation = approval.approve(make_drafted(company), by=company.approver, now=NOW)
    rotation.steps.filter(act="stage").update(state="done", done_at=NOW)
    rotation.steps.filter(act="announce").update(blocked=False)
    return rotation


def queries(client: Client, url: str) -> int:
    client.get(url)
    with CaptureQueriesContext(connection) as asked:
        assert client.get(url).status_code == 200
    return len(asked)


def test_the_page_takes_as_many_queries_for_two_partners_as_for_forty(operator: Client, company: Company) -> None:
    first = many(company, 0)
    few = queries(operator, reverse("rotation-announce", args=[first.uid]))
    endings.cancel(first, reason="Enough", by=company.by, now=NOW)
    assert queries(operator, reverse("rotation-announce", args=[many(company, 40).uid])) == few


def test_a_preview_takes_as_many_queries_for_one_contact_as_for_ten(operator: Client, northwind: Participant) -> None:
    url = reverse("participant-announcement", args=[northwind.uid])
    one = queries(operator, url)
    for n in range(9):
        Contact.objects.create(partner=northwind.partner, name=f"N{n}", email=f"n{n}@northwind.example")
    assert queries(operator, url) == one
