"""Services of ours that do not run are started, and one that cannot be says why."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy import operations, services

JOURNAL = "nginx: [emerg] bind() to 0.0.0.0:80 failed\nFailed to start nginx.service."


class Systemd:
    """systemctl and journalctl of a host, as far as they are asked here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def is_like(self, *, active: str = "active", enabled: bool = True, fails: str = "none") -> None:
        """Have nginx be so, and one verb of systemctl's fail."""
        script = (
            f'echo "$@" >> {self.folder}/asked\n'
            f'case "$1" in is-active) echo {active}; [ {active} = active ];; '
            f"is-enabled) {str(enabled).lower()};; "
            f'"{fails}") echo "Failed to do it" >&2; exit 1;; esac\n'
        )
        for name, text in (("systemctl", script), ("journalctl", f"echo '{JOURNAL}'\n")):
            (self.folder / name).write_text(f"#!/bin/sh\n{text}")
            (self.folder / name).chmod(0o755)

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script on the host."""
        env = {"PATH": f"{self.folder}:/usr/bin:/bin"}
        return subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=env)

    @property
    def asked(self) -> list[str]:
        """What systemctl was asked to do."""
        return (self.folder / "asked").read_text().splitlines()

    def get_fact(self, _fact: object, script: str) -> list[str]:
        """Return what a script prints there."""
        return self.run(script).stdout.splitlines()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    """Return a host's systemd."""
    made = Systemd(tmp_path)
    host = SimpleNamespace(get_fact=made.get_fact, noop=lambda _text: None, name="backend-02")
    monkeypatch.setattr(services, "host", host)
    return made


@pytest.mark.parametrize(
    ("active", "enabled", "runs"),
    [
        ("active", True, True),
        ("reloading", True, True),
        ("active", False, False),
        ("inactive", True, False),
        ("failed", True, False),
        ("activating", True, False),
    ],
)
def test_a_service_runs_if_it_does_now_and_will_after_a_reboot(
    systemd: Systemd, active: str, enabled: bool, runs: bool
) -> None:
    systemd.is_like(active=active, enabled=enabled)
    assert services.runs("nginx") is runs
    assert bool(list(services.as_configured("nginx"))) is not runs


def test_one_that_was_stopped_is_enabled_and_started(systemd: Systemd) -> None:
    systemd.is_like(active="failed", enabled=False)
    (command,) = services.as_configured("nginx")
    done = systemd.run(str(command))
    assert (done.returncode, done.stderr) == (0, "")
    assert systemd.asked[-3:] == [
        "enable -q nginx", "reset-failed nginx", "reload-or-restart nginx"
    ]  # fmt: skip


def test_one_that_cannot_be_started_says_what_its_journal_has_last(systemd: Systemd) -> None:
    systemd.is_like(fails="reload-or-restart")
    done = systemd.run(services.running("nginx"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: nginx cannot be started: nginx: [emerg] bind() to 0.0.0.0:80 failed;"
        "Failed to start nginx.service."
    )


def test_one_that_cannot_be_enabled_is_not_blamed_on_its_journal(systemd: Systemd) -> None:
    systemd.is_like(fails="enable")
    done = systemd.run(services.running("nginx"))
    assert (done.returncode, done.stderr) == (1, "Failed to do it\n")


@pytest.mark.parametrize("started", [True, False])
def test_haproxy_with_the_right_file_is_started_unless_it_is_none_of_a_steps_business(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch, started: bool
) -> None:
    systemd.is_like(active="inactive")
    facts = SimpleNamespace(get_fact=lambda *_, **__: "as it is\n", noop=lambda _text: None)
    monkeypatch.setattr(operations, "host", facts)
    commands = operations.haproxy_configured._inner(lambda: "as it is\n", started=started)
    assert len(list(commands)) == started
