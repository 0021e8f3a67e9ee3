"""Steps as one archive: what each of them brings stays its own, and so does what it does."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from certsync.programs import text_of
from deploy import archive
from deploy.step import Step


def members(steps: list[Step]) -> dict[str, bytes]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive.archive(steps))) as opened:
        for each in opened:
            file = opened.extractfile(each)
            assert file
            found[each.name] = file.read()
            # It may bring a key; nobody but root reads it while it is unpacked.
            assert (each.mode, each.isreg()) == (0o600, True)
    return found


def run(folder: Path, *scripts: str) -> subprocess.CompletedProcess[str]:
    (folder / "functions").write_text("")
    (folder / "steps").write_text(archive.script([Step("it", each) for each in scripts]))
    return subprocess.run(["sh", "steps", str(folder)], cwd=folder, capture_output=True, text=True)


def test_files_of_the_same_name_are_kept_apart_by_step(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"PK\x00\xff")
    steps = [
        Step("text", ":", {"file": "ä\n"}),
        Step("bytes", ":", {"file": b"\xff"}),
        Step("path", ":", {"file": tmp_path / "a.whl"}),
    ]
    assert members(steps) == {
        "functions": text_of("functions.sh").encode(),
        "steps": archive.script(steps).encode(),
        "0/file": "ä\n".encode(),
        "1/file": b"\xff",
        "2/file": b"PK\x00\xff",
    }


def test_an_archive_of_the_same_steps_is_the_same_whenever_it_is_made() -> None:
    steps = [Step("it", ":", {"file": "text"})]
    assert archive.archive(steps) == archive.archive(steps)


def test_a_file_that_cannot_be_read_here_makes_no_archive(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        archive.archive([Step("it", ":", {"a.whl": tmp_path / "a.whl"})])


def test_a_step_leaves_the_next_ones_folder_variables_and_options_alone(tmp_path: Path) -> None:
    done = run(tmp_path, "cd /; own=1; set -u; false\n:", 'echo "${own-none} $PWD ${here##*/}"')
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"none {tmp_path} 1"


def test_a_step_that_ends_early_and_well_is_followed_by_the_next(tmp_path: Path) -> None:
    done = run(tmp_path, "exit 0\necho not this", "echo this")
    assert done.stdout.splitlines() == [
        "certsync: this is step 0", "certsync: this is step 1", "this"
    ]  # fmt: skip


def test_what_is_printed_before_each_step_is_known_again_and_nothing_else_is(
    tmp_path: Path,
) -> None:
    lines = run(tmp_path, "echo certsync: this is step 1 of many").stdout.splitlines()
    found = [archive.STEP.fullmatch(line) for line in lines]
    assert [each[1] if each else None for each in found] == ["0", None]
