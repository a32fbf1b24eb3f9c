"""A rotation to a certificate of ACME-PROD, which Alice owns."""

from __future__ import annotations

from typing import Any

import pytest

from as2certs.accounts.models import User
from rotations.models import Rotation
from tests.rotations.notifications.expiries import (
    DAY,
    NOW,
    make_certificate,
    make_identity,
    make_rotation,
    make_user,
)


@pytest.fixture
def alice() -> User:
    return make_user("alice", time_zone="Europe/Berlin")


@pytest.fixture
def acme(alice: User) -> Any:
    return make_identity(owners=[alice])


@pytest.fixture
def planned(acme: Any) -> Rotation:
    """Return a rotation whose window starts in two days, to a certificate that is valid for two years."""
    old = make_certificate(acme, NOW + 20 * DAY)
    new = make_certificate(acme, NOW + 730 * DAY, serves=[])
    return make_rotation(old, new_identity_certificate=new)
