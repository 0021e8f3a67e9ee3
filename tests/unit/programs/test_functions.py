"""What the steps of a deploy are made of, on hosts that somebody has set up in an unusual way."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.steps import program, taken

BROKEN = "E: The repository 'https://broken.example ./ Release' does not have a Release file."
LOCKED = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)"


def packages(
    folder: Path, update: str, install: str = "exit 0"
) -> subprocess.CompletedProcess[str]:
    """Install a package with this apt."""
    asked = f'case "$*" in *" update") {update} ;; esac\necho "$*" > {folder}/installed\n{install}'
    program(folder, "apt-get", asked)
    program(folder, "ls", "true")
    program(folder, "sleep", "echo slept >&2")
    return taken(folder, "packages nginx")


def test_one_broken_source_of_packages_does_not_keep_others_from_being_used(
    tmp_path: Path,
) -> None:
    done = packages(tmp_path, f'echo "{BROKEN}" >&2; exit 100')
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "installed").read_text().endswith(" install --no-install-recommends nginx\n")


def test_if_a_package_is_then_missing_the_broken_source_is_the_reason(tmp_path: Path) -> None:
    missing = "echo 'E: Unable to locate package nginx' >&2; exit 100"
    done = packages(tmp_path, f'echo "{BROKEN}" >&2; exit 100', missing)
    assert done.returncode == 1
    why = BROKEN.removeprefix("E: ")
    assert done.stderr.splitlines()[1] == f"error: apt-get update failed: {why}"


def test_the_lock_of_the_package_lists_is_waited_for(tmp_path: Path) -> None:
    turn = f"{tmp_path}/turn"
    update = f'[ -e {turn} ] && exit 0; touch {turn}; echo "{LOCKED}"; exit 100'
    done = packages(tmp_path, update)
    assert (done.returncode, done.stderr) == (0, "slept\n")


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts in a namespace of its own")


@needs_root
@pytest.mark.parametrize("linked", [".", "conf.d"])
def test_a_configuration_behind_a_link_is_tried_on_a_copy(tmp_path: Path, linked: str) -> None:
    real, etc = tmp_path / "real", tmp_path / "etc"
    etc.mkdir()
    for folder in ("conf.d", "sites-enabled"):
        (real / folder).mkdir(parents=True)
    (real / "conf.d/mine.conf").write_text("before\n")
    if linked == ".":
        (etc / "nginx").symlink_to(real)
    else:
        (etc / "nginx/sites-enabled").mkdir(parents=True)
        (etc / "nginx/conf.d").symlink_to(real / "conf.d")
    changes = f'[["place", "{etc}/nginx/conf.d/mine.conf", "0"]]'
    text = Path("certsync/programs/functions.sh").read_text().replace("/etc/nginx", f"{etc}/nginx")
    (tmp_path / "functions.sh").write_text(text)
    program(tmp_path, "nginx", f"cat {etc}/nginx/conf.d/mine.conf > {tmp_path}/tried; exit 1")
    files = {
        "0": "after\n",
        "changes": changes,
        "change.py": Path("certsync/programs/change.py").read_text(),
    }
    done = taken(tmp_path, f". {tmp_path}/functions.sh; configure_nginx changes", files)
    assert done.returncode == 1
    assert (tmp_path / "tried").read_text() == "after\n"
    assert (real / "conf.d/mine.conf").read_text() == "before\n"
