"""Services of ours that do not run are started, and one that cannot be says why."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from certsync.operator.hosts.survey import Survey
from certsync.programs import text_of
from deploy import balancer, step
from tests.unit.steps import program, surveyed, taken

JOURNAL = "nginx: [emerg] bind() to 0.0.0.0:80 failed\nFailed to start nginx.service."


def nginx(active: str = "active", enabled: str = "enabled") -> Survey:
    return surveyed(f"unit nginx.service {active}:{enabled}:no:1024")


@pytest.mark.parametrize(
    ("active", "enabled", "runs"),
    [
        ("active", "enabled", True),
        ("reloading", "enabled", True),
        ("active", "disabled", False),
        ("inactive", "enabled", False),
        ("failed", "enabled", False),
        ("activating", "enabled", False),
    ],
)
def test_a_service_runs_if_it_does_now_and_will_after_a_reboot(
    active: str, enabled: str, runs: bool
) -> None:
    seen = nginx(active, enabled)
    assert seen.unit("nginx").runs is runs
    made = step.runs(seen, "nginx", "nginx")
    assert bool(made.script) is not runs
    assert [each.before for each in made.changes] == ([] if runs else ["stopped\n"])


def systemd(folder: Path, fails: str = "none") -> None:
    """Have a systemd of which one verb fails."""
    asked = f'echo "$@" >> {folder}/asked\n'
    failing = f'case $1 in {fails}) echo "Failed to do it" >&2; exit 1;; esac'
    program(folder, "systemctl", asked + failing)
    program(folder, "journalctl", f"echo '{JOURNAL}'")


def start(folder: Path) -> subprocess.CompletedProcess[str]:
    return taken(folder, step.runs(nginx("failed", "disabled"), "nginx", "nginx").script)


def test_one_that_was_stopped_is_enabled_and_started(tmp_path: Path) -> None:
    systemd(tmp_path)
    done = start(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "asked").read_text().splitlines() == [
        "enable -q nginx", "reset-failed nginx", "reload-or-restart nginx"
    ]  # fmt: skip


def test_one_that_cannot_be_started_says_what_its_journal_has_last(tmp_path: Path) -> None:
    systemd(tmp_path, fails="reload-or-restart")
    done = start(tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: nginx cannot be started: nginx: [emerg] bind() to 0.0.0.0:80 failed;"
        "Failed to start nginx.service."
    )


def test_one_that_cannot_be_enabled_is_not_blamed_on_its_journal(tmp_path: Path) -> None:
    systemd(tmp_path, fails="enable")
    done = start(tmp_path)
    assert (done.returncode, done.stderr) == (1, "Failed to do it\n")


@pytest.mark.parametrize("started", [True, False])
def test_haproxy_with_the_right_file_is_started_unless_it_is_none_of_a_steps_business(
    started: bool,
) -> None:
    made = balancer.haproxy("it", lambda: "", surveyed(), started=started)
    assert bool(made.script) == started


@pytest.mark.parametrize(
    ("configuration", "uptimes", "asked"),
    [
        ("peers certsync\n", "2 5 6 7", 3),
        ("peers certsync\n", "60", 1),
        ("peers certsync\n", "", 1),
        ("global\n", "2 3", 0),
    ],
    ids=["just reloaded", "runs for long", "does not run", "remembers nothing"],
)
def test_haproxy_is_not_reloaded_before_it_has_learnt_what_is_remembered(
    tmp_path: Path, configuration: str, uptimes: str, asked: int
) -> None:
    (tmp_path / "cfg").write_text(configuration)
    (tmp_path / "uptimes").write_text("\n".join(uptimes.split()))
    program(tmp_path, "sleep", "")
    program(
        tmp_path,
        "socat",
        f"cat > /dev/null; echo >> {tmp_path}/asked\n"
        f'sed -n "$(wc -l < {tmp_path}/asked)s/^/Uptime_sec: /p" {tmp_path}/uptimes',
    )
    script = text_of("functions.sh").replace("/etc/haproxy/haproxy.cfg", f"{tmp_path}/cfg")
    done = taken(tmp_path, f"{script}\nhaproxy_has_learnt")
    assert (done.returncode, done.stderr) == (0, "")
    told = tmp_path / "asked"
    assert (len(told.read_text()) if told.exists() else 0) == asked
