"""Version tokens change with the facts that are decided about, and with nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rotations.errors import EditConflict
from rotations.execution.version_token import require_rotation_version, rotation_version, version_token
from rotations.models import Rotation, Step
from tests.rotations.company import NOW, Company, make_company, make_draft


@pytest.fixture
def rotation(db: None) -> Rotation:
    company: Company = make_company(connector=None)
    return make_draft(company, starts=NOW + timedelta(days=1))


@pytest.mark.parametrize(
    "changed",
    [
        {"roles": ["sign"]},
        {"old_identity_certificate": None},
        {"new_identity_certificate": None},
        {"window_start": NOW},
        {"window_end": NOW + timedelta(days=9)},
        {"window_zone": "Europe/Berlin"},
        {"at_end": "extend"},
        {"grace_days": 3},
        {"notes": "Call Dave first."},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_it_changes_with_each_fact_that_is_decided_about(rotation: Rotation, changed: dict[str, object]) -> None:
    seen = rotation_version(rotation)
    require_rotation_version(Rotation.objects.get(), seen)
    Rotation.objects.update(**changed)
    with pytest.raises(EditConflict, match=r"^The rotation of ACME: .* has changed in the meantime"):
        require_rotation_version(Rotation.objects.get(), seen)


def test_it_changes_when_a_participant_leaves(rotation: Rotation) -> None:
    seen = rotation_version(rotation)
    rotation.participants.filter(partner__name="Fabrikam").update(removed_reason="no longer a customer")
    assert rotation_version(rotation) != seen


def test_it_does_not_change_with_the_progress_of_the_steps(rotation: Rotation) -> None:
    seen = rotation_version(rotation)
    Step.objects.create(rotation=rotation, position=1, key="stage", who="we", act="stage", title="Load it")
    Step.objects.update(state="done")
    Rotation.objects.update(state="exchanging")
    assert rotation_version(Rotation.objects.get()) == seen


def test_the_steps_count_where_a_changed_plan_is_approved_again(rotation: Rotation) -> None:
    Rotation.objects.update(state="exchanging", withdrawn_at=NOW, withdrawn_because="Kim moved the window")
    rotation.refresh_from_db()
    seen = rotation_version(rotation)
    Step.objects.create(rotation=rotation, position=1, key="stage", who="we", act="stage", title="Load it")
    with_step = rotation_version(rotation)
    Step.objects.update(state="done")
    assert with_step != seen
    assert rotation_version(rotation) == with_step


def test_a_token_has_the_length_that_is_asked_for() -> None:
    assert len(version_token(["a", NOW])) == 24
    assert version_token(["a", NOW], length=10) == version_token(["a", NOW])[:10]
    assert version_token(["a", "b"]) != version_token(["ab"])
