"""The command line's last line of defence: no mistake of a person ends in a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from certsync.main import cli, run
from certsync.model.errors import LockHeldError
from certsync.operator.deployment.plan import Step
from certsync.operator.hosts import wheels


def ended(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    def work() -> None:
        raise error

    status = run(work)
    captured = capsys.readouterr()
    assert captured.out == ""
    return status, captured.err


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        pytest.param(
            LockHeldError("x has held the fleet lock for 3 s", "wait for it"),
            75,
            "error: x has held the fleet lock for 3 s\nhint: wait for it\n",
            id="ours",
        ),
        pytest.param(
            PermissionError(13, "Permission denied", "/etc/fleet.toml"),
            1,
            "error: /etc/fleet.toml: Permission denied\n"
            "hint: is the disk full or read-only, and do you own the file?\n",
            id="the file system's",
        ),
        pytest.param(
            ModuleNotFoundError("No module named 'tomlkit'", name="tomlkit"),
            1,
            "error: the Python package tomlkit is not installed here\n"
            "hint: on the operator's machine: pip install 'certsync-fleet[deploy]'\n",
            id="the issuer's small set on an operator's machine",
        ),
        pytest.param(
            KeyboardInterrupt(),
            130,
            "interrupted; run the same command again to continue\n",
            id="Ctrl-C",
        ),
    ],
)
def test_errors_are_told_in_words_with_their_exit_status(
    error: BaseException, status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(error, capsys) == (status, text)


@pytest.mark.parametrize("verb", sorted(cli.commands))
def test_every_command_has_help(verb: str) -> None:
    shown = CliRunner().invoke(cli, [verb, "--help"])
    assert shown.exit_code == 0
    assert cli.commands[verb].help


def test_a_fleet_file_with_a_mistake_is_exit_status_2_for_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text("names = ")
    for argv in (["check"], ["deploy"], ["status"], ["passthrough", "on"]):
        status = run(partial(cli.main, [*argv, str(path)], standalone_mode=False))
        assert status == 2
        assert capsys.readouterr().err.startswith(f"error: {path} has 1 mistake\n  line 1: ")


def test_passthrough_is_edited_with_comments_kept(tmp_path: Path) -> None:
    from certsync.operator.commands.passthrough import passthrough, plan

    done: list[Step] = []
    checkout = Path(__file__).resolve().parents[2]
    path = tmp_path / "fleet.toml"
    text = (checkout / "inventory/example.toml").read_text()
    path.write_text(text.replace("agree_to_terms = false", "agree_to_terms = true"))
    assert passthrough(path, on=True, done=done) == f"passthrough is already on in {path}"
    assert done == []
    planned = plan(path, on=False).steps
    assert "\npassthrough = false\n" not in path.read_text()
    told = passthrough(path, on=False, done=done)
    assert tuple(done) == planned
    assert told == f"passthrough is off in {path}; apply it with: certsync deploy {path}"
    after = path.read_text()
    assert "\npassthrough = false\n" in after
    assert "# A fleet: servers behind one address that share one certificate." in after
    assert passthrough(path, on=False, done=done) == f"passthrough is already off in {path}"


def section(text: str, heading: str) -> str:
    """Return a section of the help."""
    return text.partition(f"{heading}:\n")[2].partition("\n\n")[0]


def test_help_shows_commands_by_the_machine_they_are_for_with_whole_sentences() -> None:
    text = CliRunner().invoke(cli, ["--help"]).output
    here, there = section(text, "On your machine"), section(text, "On the issuer")
    assert here.split()[0] == "init"
    assert "  add-backend " in here
    assert "  renew " in there
    assert "  renew " not in here
    assert "  outlook " not in text
    assert "..." not in here + there


def test_without_the_operators_side_its_commands_are_not_there(tmp_path: Path) -> None:
    """As on an issuer, with what is brought there."""
    for name, content in wheels.sources().items():
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-m", "certsync", "--help"],
        cwd=tmp_path, capture_output=True, text=True, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "On your machine" not in done.stdout
    assert "  renew " in section(done.stdout, "On the issuer")
    rooms = {path.parent.name for path in (tmp_path / "certsync").glob("*/__init__.py")}
    assert rooms == {"issuer", "model", "programs", "system"}
