"""Which snapshot of hosts' disks a lab starts from, and which ones stay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab import snapshot

PATHS = ("product", "lab", "pins.txt")
SAID = ("what the image is made of", "the fleet file")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "product/__pycache__").mkdir(parents=True)
    (tmp_path / "lab").mkdir()
    (tmp_path / "product/a.py").write_text("a")
    (tmp_path / "product/b.py").write_text("b")
    (tmp_path / "lab/world.py").write_text("world")
    (tmp_path / "pins.txt").write_text("pins")
    return tmp_path


@pytest.fixture
def kept_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "snapshots"
    monkeypatch.setattr(snapshot, "SNAPSHOTS", folder)
    return folder


def key(checkout: Path) -> str:
    return snapshot.key(checkout, PATHS, SAID)


def test_the_same_makes_the_same_snapshot_and_compiled_files_do_not_count(checkout: Path) -> None:
    before = key(checkout)
    (checkout / "product/__pycache__/a.pyc").write_text("compiled")
    assert key(checkout) == before
    assert len(before) == 16


@pytest.mark.parametrize("path", ["product/a.py", "product/new.py", "lab/world.py", "pins.txt"])
def test_each_file_makes_another_one(checkout: Path, path: str) -> None:
    before = key(checkout)
    (checkout / path).write_text("changed")
    assert key(checkout) != before


def test_a_file_that_moves_or_goes_makes_another_one(checkout: Path) -> None:
    keys = {key(checkout)}
    (checkout / "product/b.py").rename(checkout / "lab/b.py")
    keys.add(key(checkout))
    (checkout / "lab/b.py").unlink()
    keys.add(key(checkout))
    assert len(keys) == 3


@pytest.mark.parametrize("said", [("another image", SAID[1]), (SAID[0], "another fleet"), SAID[:1]])
def test_so_do_the_image_and_the_fleet_file(checkout: Path, said: tuple[str, ...]) -> None:
    assert snapshot.key(checkout, PATHS, said) != key(checkout)


def test_those_used_last_stay_and_what_was_interrupted_does_not(tmp_path: Path) -> None:
    found = {tmp_path / name: float(at) for at, name in enumerate(["a", "b", "c", "d.part"])}
    dropped = snapshot.outdated(found, 2)
    assert [each.name for each in dropped] == ["d.part", "a"]
    assert snapshot.outdated({}, 2) == []


def test_it_is_made_once(kept_here: Path) -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "backend-01").mkdir()

    for _ in range(2):
        assert snapshot.kept("k", make) == kept_here / "k"
    assert len(made) == 1
    assert (kept_here / "k/backend-01").is_dir()


def test_one_that_fails_is_none_and_is_made_anew(kept_here: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").mkdir()
        raise OSError("cut off")

    with pytest.raises(OSError, match="cut off"):
        snapshot.kept("k", fail)
    assert not (kept_here / "k").exists()
    folder = snapshot.kept("k", lambda folder: (folder / "whole").mkdir())
    assert [each.name for each in folder.iterdir()] == ["whole"]


def test_older_ones_go_and_one_that_is_used_again_counts_as_new(kept_here: Path) -> None:
    names = [f"k{number}" for number in range(snapshot.KEPT)]
    for number, name in enumerate(names):
        snapshot.kept(name, lambda _: None)
        # As if they had been used so long ago.
        before = 1000.0 + number
        os.utime(kept_here / name, (before, before))
    snapshot.kept(names[0], lambda _: None)
    snapshot.kept("new", lambda _: None)
    left = {each.name for each in kept_here.iterdir() if each.is_dir()}
    assert left == {"new", *names} - {names[1]}


def test_a_layer_has_nothing_of_the_lab_it_came_from(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    names = {
        "etc/machine-id", "etc/hosts", "etc/ssh/ssh_host_ed25519_key", "var/log/journal/1/system",
        "var/log/nginx/access.log", "home/admin/.ssh/authorized_keys", "opt/certsync/current",
    }  # fmt: skip
    for name in names:
        (upper / name).parent.mkdir(parents=True, exist_ok=True)
        (upper / name).write_text(name)
    target = tmp_path / "layer"
    snapshot.keep_layer(upper, target)
    left = {str(each.relative_to(target)) for each in target.rglob("*") if each.is_file()}
    assert left == {
        "etc/ssh/ssh_host_ed25519_key", "opt/certsync/current", "var/log/nginx/access.log"
    }  # fmt: skip
