"""The mutations still fit the code, and cover every rule that they are about."""

from __future__ import annotations

import pytest

from tests.mutations.__main__ import ROOT, judge
from tests.mutations.catalogue import MUTATIONS, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.rule)
def test_a_mutation_fits_the_code_and_its_tests_exist(mutation: Mutation) -> None:
    mutated = mutation.apply((ROOT / mutation.file).read_text())
    compile(mutated, mutation.file, "exec")
    for path in mutation.tests:
        assert (ROOT / path.partition("::")[0]).exists(), path


def test_every_rule_has_one_mutation() -> None:
    rules = [mutation.rule for mutation in MUTATIONS]
    assert len(rules) >= 30
    assert len(set(rules)) == len(rules)


def test_a_mutation_that_no_longer_fits_says_so() -> None:
    mutation = Mutation("some rule", "some_file.py", "a < b", "a <= b", ())
    with pytest.raises(ValueError, match=r"occurs 2 times: adapt the mutation “some rule”"):
        mutation.apply("a < b or a < b")


@pytest.mark.parametrize(
    ("status", "output", "verdict"),
    [
        (0, "3 passed", ("SURVIVED", "")),
        (1, "FAILED tests/test_x.py::test_y - assert 0\n1 failed", ("killed", "tests/test_x.py::test_y")),
        (
            4,
            "ERROR: file or directory not found: tests/x",
            ("BROKEN", "ERROR: file or directory not found: tests/x"),
        ),
    ],
)
def test_only_failing_tests_kill_a_mutation(status: int, output: str, verdict: tuple[str, str]) -> None:
    assert judge(status, output) == verdict
