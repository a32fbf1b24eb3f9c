"""What the tests with peers share: the environment of django-pyas2."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers.pyas2_peer import NotInstalled, make_environment


@pytest.fixture(scope="session")
def pyas2_python() -> Path:
    """Return the Python of django-pyas2's environment; skip the test if that can't be made."""
    try:
        return make_environment()
    except NotInstalled as error:
        pytest.skip(f"django-pyas2 is not installed: {error}")
