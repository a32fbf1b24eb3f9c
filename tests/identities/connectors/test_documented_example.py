"""The connector in docs/connectors.md: extracted from there, and run as the runner would."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from identities.connectors.base import Baseline, Connector, ConnectorOutcome, ConnectorState
from identities.connectors.use import find_differences
from tests.identities.connectors.changes import AS2_ID, C1, C2, C3, change, rollback_change

DOCS = Path(__file__).parents[3] / "docs/connectors.md"


@pytest.fixture
def connector(tmp_path: Path) -> Any:
    (source,) = re.findall(r"^```python\n(.*?)^```$", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    found: dict[str, Any] = {"__name__": "example"}
    exec(compile(source, str(DOCS), "exec", dont_inherit=True), found)  # noqa: S102
    return found["JsonFileConnector"].from_settings({"folder": str(tmp_path)}, settings=None, credentials={})


def test_it_has_everything_that_a_connector_has(connector: Any) -> None:
    missing = [name for name in vars(Connector) if not name.startswith("_") and not hasattr(connector, name)]
    assert missing == []
    assert connector.check().outcome.good


def test_it_applies_a_rotation_and_takes_it_back(connector: Any) -> None:
    baseline = Baseline("b", "own", AS2_ID, {"decrypt": (C1,), "sign": (C1,)})
    assert connector.write_baseline(baseline).outcome.good
    assert find_differences(connector.used(baseline), baseline) == ()
    for step in (
        change("stage", {"decrypt": "add"}),
        change("switch", {"sign": "switch"}),
        rollback_change(),
    ):
        assert connector.state(step) is ConnectorState.OLD
        assert connector.apply(step).outcome is ConnectorOutcome.APPLIED
        assert connector.state(step) is ConnectorState.NEW
        assert connector.verify(step).outcome.good
    assert connector.read(change())["sign"].current == C1.sha256


def test_it_stops_where_it_finds_another_certificate(connector: Any) -> None:
    connector.write_baseline(Baseline("b", "own", AS2_ID, {"decrypt": (C3,), "sign": (C3,)}))
    assert connector.state(change()) is ConnectorState.DRIFT
    assert connector.apply(change()).outcome is ConnectorOutcome.REJECTED
    wanted = Baseline("b", "own", AS2_ID, {"decrypt": (C2,), "sign": (C2,)})
    assert connector.write_baseline(wanted).outcome is ConnectorOutcome.REJECTED
