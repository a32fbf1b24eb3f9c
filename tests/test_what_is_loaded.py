"""What each process loads: what it needs, before it is needed, and little else."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings

from tests.stack import COMMANDS, ROOT, Stack

#: What only pages bring, and only some of them: second factors, single sign-on.
OF_PAGES = ("fido2", "jwt", "requests", "oauthlib")
#: Packages with models, tasks and pages.
OURS = (
    "as2certs.accounts",
    "as2certs.audit",
    "as2certs.site",
    "as2certs.mail",
    "identities",
    "partners",
    "rotations",
)


def loaded(code: str, var: Path) -> list[str]:
    """Return the modules that a process has loaded after this code."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "AS2CERTS_VAR": str(var),
            "SECRET_KEY": "x",
            "AS2CERTS_VAULT_KEYS": "x",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_what_is_loaded_at_the_start_is_left_alone_by_full_collections() -> None:
    assert gc.get_freeze_count() > 50_000


def test_beat_knows_the_schedule_and_nothing_else(tmp_path: Path) -> None:
    code = "from as2certs.beat import app; app.loader.init_worker(); assert len(app.conf.beat_schedule) >= 5"
    modules = loaded(code, tmp_path)
    assert "django.contrib.auth.models" not in modules
    assert [name for name in modules if name.startswith((*OURS, *OF_PAGES, "as2certs.urls"))] == []


def test_what_beat_sends_are_tasks_that_a_worker_has() -> None:
    from as2certs.celery import app

    app.loader.import_default_modules()
    for entry in settings.CELERY_BEAT_SCHEDULE.values():
        assert entry["task"] in app.tasks


def test_a_worker_is_warm_without_what_only_pages_need(tmp_path: Path) -> None:
    code = "from as2certs.celery import app\napp.loader.init_worker()\nfrom rotations import runner\nrunner.warm_up()"
    modules = loaded(code, tmp_path)
    assert "rotations.runner" in modules
    assert [name for name in modules if name.split(".")[0] in OF_PAGES] == []


def test_nothing_is_loaded_at_the_moment_of_the_first_step(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack(environment={"AS2CERTS_HOOKS": '{"reload": ["/bin/true"]}'})
    (stack.folder / "as2").mkdir(exist_ok=True)
    stack.python("from tests.faults import companies\ncompanies.many([1.0, 1.0], directories=[0], ago=20)\nprint(1)")
    late = stack.python(
        "import json, sys\nfrom rotations import models, runner\nrunner.warm_up()\n"
        "models.Heartbeat.objects.count()  # as each tick before it asks the database\nbefore = set(sys.modules)\n"
        "assert runner.apply_due(wait=False) == 2\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    )
    assert late == []


@pytest.mark.extended
@pytest.mark.parametrize("name", ["worker", "beat"])
def test_a_process_ends_in_order_when_it_is_asked_to(make_stack: Callable[..., Stack], name: str) -> None:
    assert f"as2certs.{name}" in COMMANDS[name]
    stack = make_stack()
    (process,) = stack.start(name)
    with pytest.raises(subprocess.TimeoutExpired):
        process.popen.wait(timeout=4)
    process.terminate()
    assert process.popen.wait(timeout=15) == 0, process.log
    assert process.log.strip() in ("", "worker: Warm shutdown (MainProcess)")
