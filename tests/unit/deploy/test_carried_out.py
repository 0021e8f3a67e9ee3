"""Steps travel as one archive, are taken one after the other, and tell what became of each."""

from __future__ import annotations

import base64
import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api import StringCommand
from pyinfra.connectors.util import CommandOutput, OutputLine

from certsync.model.errors import HostError
from certsync.operator.hosts.survey import Survey
from certsync.programs import FOLDER, text_of
from deploy import answers, carried_out, progress, surveys
from deploy.archive import archive
from deploy.carried_out import Taken
from deploy.step import Step, refused


def unpacking(folder: Path) -> str:
    """Return the program that takes an archive, at work below a folder instead of /run."""
    return text_of("unpack.sh").replace("/run/", f"{folder}/")


def unpacked(folder: Path, steps: list[Step], missing: int = 0) -> subprocess.CompletedProcess[str]:
    content = archive(steps)
    sent = base64.b64encode(content)
    return subprocess.run(
        ["sh", "-c", unpacking(folder), "unpack", str(len(content))],
        input=sent[: len(sent) - missing].decode(),
        capture_output=True,
        text=True,
    )


def test_the_steps_are_taken_in_their_order_with_what_they_bring(tmp_path: Path) -> None:
    target = tmp_path / "target"
    steps = [
        Step("write it", f'cat "$here/a b" > {target}', {"a b": "it's\n"}),
        Step("add bytes", f'cat "$here/it" >> {target}', {"it": b"\x00\xff\n"}),
    ]
    done = unpacked(tmp_path, steps)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["certsync: this is step 0", "certsync: this is step 1"]
    assert target.read_bytes() == b"it's\n\x00\xff\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["certsync-apply.lock", "target"]


def test_nothing_is_taken_after_a_step_that_fails(tmp_path: Path) -> None:
    steps = [
        Step("well", "false; true"),
        Step("not well", "echo why >&2; exit 7"),
        Step("never", f"touch {tmp_path}/never"),
    ]
    done = unpacked(tmp_path, steps)
    assert (done.returncode, done.stderr) == (7, "why\n")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("missing", [3, 4, 400])
def test_an_upload_that_is_interrupted_changes_nothing(tmp_path: Path, missing: int) -> None:
    done = unpacked(tmp_path, [Step("it", f"touch {tmp_path}/it")], missing)
    assert (done.returncode, done.stderr) == (1, "error: the upload was incomplete\n")
    assert not (tmp_path / "it").exists()


def test_what_a_killed_run_has_left_is_swept(tmp_path: Path) -> None:
    left = tmp_path / "certsync-apply.ABCDEFGH"
    left.mkdir()
    (left / "archive").write_text("half")
    assert unpacked(tmp_path, [Step("it", ":")]).returncode == 0
    assert not left.exists()


def test_a_file_is_put_in_its_place_whole_and_is_whose_it_should_be(tmp_path: Path) -> None:
    path = tmp_path / "it's there"
    me = f"{os.getuid()} {os.getgid()}"
    path.write_text("before")
    before = path.stat().st_ino
    script = f"place file {shlex.quote(str(path))} 640 {me}"
    done = unpacked(tmp_path, [Step("it", script, {"file": "after\n"})])
    assert (done.returncode, done.stderr) == (0, "")
    assert path.read_text() == "after\n"
    assert path.stat().st_mode & 0o777 == 0o640
    # Renamed over the old one: who reads meanwhile reads one of the two.
    assert path.stat().st_ino != before


def change(folder: Path, changes: list[tuple[str, str, str]]) -> int:
    (folder / "changes").write_text(json.dumps(changes))
    program = FOLDER / "change.py"
    argv = [sys.executable, "-IS", str(program), str(folder), str(folder / "changes")]
    return subprocess.run(argv, stderr=subprocess.DEVNULL).returncode


def test_files_that_belong_together_change_together_or_not_at_all(tmp_path: Path) -> None:
    for name in ("a", "b", "gone"):
        (tmp_path / name).write_text("before")
    (tmp_path / "new").write_text("after")
    (tmp_path / "a.certsync-new").write_text("left by one that was killed")
    changes = [
        ("place", f"{tmp_path}/a", "new"), ("remove", f"{tmp_path}/gone", ""),
        ("link", f"{tmp_path}/b", "a"), ("place", f"{tmp_path}/c", "missing"),
    ]  # fmt: skip
    assert change(tmp_path, changes) != 0
    assert [(tmp_path / name).read_text() for name in ("a", "b", "gone")] == ["before"] * 3
    assert change(tmp_path, changes[:3]) == 0
    assert (tmp_path / "a").read_text() == "after"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "b").readlink() == Path("a")
    assert not (tmp_path / "gone").exists()
    assert change(tmp_path, changes[1:2]) == 0


class Here:
    """Pyinfra's host as far as it is used: its commands run on this machine."""

    name = "backend-02"
    connected = True

    def run_shell_command(self, command: StringCommand, **arguments: Any) -> tuple[bool, Any]:
        """Run it as sshd would."""
        done = subprocess.run(
            ["sh", "-c", command.get_raw_value()],
            input=arguments["_stdin"][0],
            capture_output=True,
            text=True,
        )
        lines = [OutputLine("stdout", line) for line in done.stdout.splitlines()]
        lines += [OutputLine("stderr", line) for line in done.stderr.splitlines()]
        return done.returncode == 0, CommandOutput(lines)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return what gives all that was told so far."""
    reading, writing = os.pipe()
    monkeypatch.setenv("CERTSYNC_EVENTS", str(writing))
    monkeypatch.setattr(carried_out, "text_of", lambda _name: unpacking(tmp_path))

    def events() -> list[tuple[str, str, bool | None]]:
        os.close(writing)
        with os.fdopen(reading) as lines:
            found = [json.loads(line) for line in lines]
        assert {each["host"] for each in found} == {"backend-02"}
        return [(each["event"], each["name"], each.get("changed")) for each in found]

    return events


def take(steps: list[Step]) -> tuple[bool, Any]:
    state: Any = SimpleNamespace(print_output=False, print_input=False)
    host: Any = Here()
    return Taken(steps).execute(state, host, {})


def test_each_step_is_told_with_what_became_of_it(told: Any) -> None:
    good, output = take([Step("a", ":"), Step("b"), Step("c", "echo said")])
    assert (good, output.stdout_lines) == (True, ["said"])
    assert told() == [("success", "b", False), ("success", "a", True), ("success", "c", True)]


def test_of_steps_that_stop_the_one_that_failed_is_told(told: Any) -> None:
    good, output = take([Step("a", ":"), Step("b", "echo why >&2; false"), Step("c", ":")])
    assert (good, output.stderr_lines) == (False, ["why"])
    assert told() == [("success", "a", True), ("error", "b", None)]


def test_what_a_step_should_bring_and_is_not_there_fails_that_step(told: Any) -> None:
    def files() -> dict[str, str]:
        raise HostError("no wheels", "fetch them")

    good, output = take([Step("a", ":"), Step("certsync", "install it", files), Step("c", ":")])
    assert (good, output.stderr_lines) == (False, ["error: no wheels", "hint: fetch them"])
    assert told() == [("success", "a", True), ("error", "certsync", None)]


def test_after_steps_a_host_and_its_answers_are_asked_anew(told: Any) -> None:
    surveys._seen["backend-02"] = Survey()
    answers._answers["backend-02"] = {"issue": []}
    take([Step("a", ":")])
    assert "backend-02" not in surveys._seen
    assert "backend-02" not in answers._answers
    told()


def test_a_plan_that_cannot_be_worked_out_fails_its_host_after_what_could_be() -> None:
    def plan(_seen: Survey) -> Iterator[Step]:
        yield Step("a")
        raise OSError(2, "No such file or directory", "roots.pem")

    error = OSError(2, "No such file or directory", "roots.pem")
    assert carried_out._worked_out(plan, Survey()) == [
        Step("a"), refused("Plan the steps", error)
    ]  # fmt: skip


def test_a_run_waits_for_the_fleet_lock_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = io.StringIO('{"backend-01": "abc"}\n')
    monkeypatch.setenv("CERTSYNC_EVENTS", "1")
    monkeypatch.setattr(progress, "_tokens", {})
    monkeypatch.setattr("sys.stdin", asked)
    for _ in range(2):
        progress.go_on()
    assert progress.token("backend-01") == "abc"
    assert progress.token("backend-02") == ""


@pytest.mark.parametrize(("said", "goes_on"), [("go on\n", True), ("", False), ("x\n", False)])
def test_a_phase_begins_only_when_the_caller_has_looked_whether_it_holds_the_lock(
    said: str, goes_on: bool
) -> None:
    program = (
        "from deploy import progress; progress.go_on(); progress._wait_for_permission(); "
        "print('changed')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input='{"backend-01": "abc"}\n' + said,
        env={**os.environ, "CERTSYNC_EVENTS": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == ((0, "changed\n") if goes_on else (1, ""))


@pytest.mark.parametrize("variable", ["CERTSYNC_DRY", None])
def test_a_dry_run_and_pyinfras_own_command_line_wait_for_no_lock(
    monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    if variable:
        monkeypatch.setenv("CERTSYNC_EVENTS", "1")
        monkeypatch.setenv(variable, "1")
    monkeypatch.setattr("sys.stdin", None)
    progress.go_on()


def test_a_run_whose_lock_cannot_be_had_ends_without_a_change() -> None:
    program = "from deploy import progress; progress.go_on(); print('changed')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="",
        env={**os.environ, "CERTSYNC_EVENTS": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")


def test_a_file_of_this_machine_that_is_gone_fails_the_step_that_brings_it(
    told: Any, tmp_path: Path
) -> None:
    good, output = take([Step("certsync", ":", {"a.whl": tmp_path / "a.whl"})])
    assert not good
    assert output.stderr_lines[0].startswith("error: [Errno 2] No such file")
    assert told() == [("error", "certsync", None)]
