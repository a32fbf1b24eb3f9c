"""Another window for one partner, and taking one partner back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from identities.models import AS2System
from rotations.exchange import responses
from rotations.execution import transitions
from rotations.execution.version_token import rotation_version
from rotations.lifecycle import rescheduling
from rotations.models import Participant, Rotation, Step
from rotations.planning.states import StepAction
from rotations.planning.windows import Window
from tests.capabilities import SIGNS_PER_PARTNER, keeps_both
from tests.rotations.company import CHICAGO, NOW, Company
from tests.rotations.pages import (
    STARTS,
    WINDOW,
    first_participant,
    get_page,
    make_approved,
    make_scheduled,
    page_text,
    post_form,
)

LATER = {**WINDOW, "window_date": "2026-12-04", "window_known": "close_to_old_end", "reason": "Stocktaking"}
NEXT_DAY = Window(STARTS + timedelta(days=1), STARTS + timedelta(days=1, hours=1), CHICAGO)


@pytest.fixture
def per_partner(company: Company) -> Company:
    """The company, with a manually operated AS2 system that signs per partner."""
    company.identity.as2_system = AS2System.objects.create(
        name="OpenAS2 production", connector="manual", **keeps_both("yes"), **SIGNS_PER_PARTNER
    )
    company.identity.save()
    return company


def move(client: Client, participant: Participant, **data: Any) -> Any:
    return post_form(
        client,
        "participant-move",
        participant.uid,
        **{"seen": rotation_version(participant.rotation), **LATER, **data},
    )


def changed(rotation: Rotation, participant: Participant, company: Company) -> None:
    """Complete our cut-over for one partner."""
    steps = rotation.steps.filter(act="cut_over", participant=participant).exclude(key__startswith="past:")
    transitions.settle_step(steps.get(), StepAction.COMPLETE_BY_HAND, by=company.by, now=NOW, note="done")


def test_a_partner_gets_its_own_window(operator: Client, per_partner: Company) -> None:
    rotation = make_scheduled(per_partner)
    fabrikam = first_participant(rotation)
    asked = page_text(get_page(operator, "participant-move", fabrikam.uid))
    assert "Another moment for Fabrikam" in asked
    assert "All others keep theirs." in asked
    assert "tell them yourself" in asked  # nobody wrote to it
    assert 'value="2026-12-03"' in asked  # what it has now
    response = move(operator, fabrikam)
    assert response.url == f"/rotations/partners/{fabrikam.uid}/"
    fabrikam.refresh_from_db()
    assert (fabrikam.window_start, fabrikam.window_end) == (NEXT_DAY.start, NEXT_DAY.end)
    detail = page_text(get_page(operator, "participant-detail", fabrikam.uid))
    assert "its own window" in detail
    assert "gave the partner a moment of its own" in detail
    assert "Stocktaking" in detail
    table = page_text(get_page(operator, "rotation-detail", rotation.uid))
    assert table.count("its own:") == 1


def test_an_impossible_window_is_an_error_of_its_field(operator: Client, per_partner: Company) -> None:
    participant = first_participant(make_scheduled(per_partner))
    response = move(operator, participant, window_date="2026-12-30")
    assert response.status_code == 422
    assert "The old certificate ends before the window starts" in page_text(response)
    assert "Stocktaking" in page_text(response)  # the input is kept
    response = move(operator, participant, reason="")
    assert "Say why" in page_text(response)
    participant.refresh_from_db()
    assert participant.window_start is None


def test_a_concurrent_move_is_refused(operator: Client, per_partner: Company) -> None:
    rotation = make_scheduled(per_partner)
    fabrikam = first_participant(rotation)
    seen = rotation_version(rotation)
    rescheduling.move_participant(fabrikam, rescheduling.WindowChange(NEXT_DAY, reason="x"), by=per_partner.by, now=NOW)
    response = move(operator, fabrikam, seen=seen)
    assert response.status_code == 422
    assert "has changed in the meantime" in page_text(response)


def test_when_all_change_at_once_the_page_names_the_alternative(operator: Client, company: Company) -> None:
    rotation = make_scheduled(company)
    fabrikam = first_participant(rotation)
    assert "postpone the rotation to move it" in page_text(get_page(operator, "participant-move", fabrikam.uid))
    assert move(operator, fabrikam).status_code == 422
    assert "Another moment" not in page_text(get_page(operator, "participant-detail", fabrikam.uid))


def test_a_proposal_moves_one_partner_alone(operator: Client, per_partner: Company) -> None:
    rotation = make_approved(per_partner)
    rotation.steps.filter(act="stage").update(state="done", done_at=NOW)
    fabrikam = first_participant(rotation)
    responses.propose_window(fabrikam, NEXT_DAY, note="Stocktaking", by=per_partner.by, now=NOW)
    detail = page_text(get_page(operator, "participant-detail", fabrikam.uid))
    assert "Only the change with Fabrikam moves" in detail
    assert f"/rotations/partners/{fabrikam.uid}/moment/?proposal={fabrikam.uid}" in detail
    form = operator.get(f"/rotations/partners/{fabrikam.uid}/moment/?proposal={fabrikam.uid}")
    assert 'value="2026-12-04"' in page_text(form)
    assert "Fabrikam proposed this time." in page_text(form)


def test_one_partner_is_taken_back_alone(operator: Client, per_partner: Company) -> None:
    rotation = make_scheduled(per_partner)
    fabrikam = first_participant(rotation)
    assert "Nothing was changed over" in page_text(get_page(operator, "participant-take-back", fabrikam.uid))
    changed(rotation, fabrikam, per_partner)
    menu = page_text(get_page(operator, "participant-detail", fabrikam.uid))
    assert "Go back alone …" in menu
    asked = page_text(get_page(operator, "participant-take-back", fabrikam.uid))
    assert "signs to Fabrikam with the old certificate again, by hand" in asked
    assert "All other partners stay as they are" in asked
    response = post_form(operator, "participant-take-back", fabrikam.uid, reason="They can’t verify it")
    assert response.url == f"/rotations/partners/{fabrikam.uid}/"
    (back,) = Step.objects.filter(rotation=rotation, act="roll_back")
    assert back.participant == fabrikam
    detail = page_text(get_page(operator, "participant-detail", fabrikam.uid))
    assert "gone back to the old certificate, without a new moment yet" in detail
    assert "Another moment …" in detail
    assert "has gone back and waits for another moment" in page_text(
        get_page(operator, "rotation-detail", rotation.uid)
    )
    # Until the way back is done, the state of the AS2 system is unknown.
    assert "is not done yet. Finish that first." in page_text(get_page(operator, "participant-move", fabrikam.uid))


def test_the_partners_page_and_calendar_show_its_own_window(
    operator: Client, client: Client, per_partner: Company
) -> None:
    rotation = make_scheduled(per_partner)
    fabrikam, northwind = rotation.participants.select_related("partner", "rotation").order_by("partner__name")
    rescheduling.move_participant(
        fabrikam, rescheduling.WindowChange(NEXT_DAY, reason="Stocktaking"), by=per_partner.by, now=NOW
    )
    for participant, shown_times in ((fabrikam, "Fri 4 Dec 2026"), (northwind, "Thu 3 Dec 2026")):
        seen = page_text(get_page(operator, "participant-as-partner", participant.uid))
        assert shown_times in seen
        other = "Thu 3 Dec" if shown_times.startswith("Fri") else "Fri 4 Dec"
        assert f"{other} 2026, 22:00" not in seen
