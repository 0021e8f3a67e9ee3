"""What an image is built from, and what is said when that cannot be downloaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lab import LabError, image
from lab.suites import SUITES

MIRROR = "http://mirror.invalid/debian"


@pytest.fixture
def mmdebstrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return where one that fails writes its arguments."""
    program = tmp_path / "bin/mmdebstrap"
    program.parent.mkdir()
    arguments = tmp_path / "arguments"
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {arguments}\necho no; exit 25\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setenv("CERTSYNC_LAB_MIRROR", MIRROR)
    monkeypatch.setattr(image, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(image, "keyring_folder", lambda: tmp_path)
    return arguments


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_that_cannot_be_downloaded_is_told_with_what_to_do(
    mmdebstrap: Path, suite: str
) -> None:
    with pytest.raises(LabError) as caught:
        image.image(suite)
    assert str(caught.value).startswith(f"building the {suite} image: exited 25\nno\n")
    assert caught.value.hint == (
        f"is this machine's Debian mirror reachable, and does it have {suite}? try apt-get update, "
        "or set CERTSYNC_LAB_MIRROR to a mirror that has it"
    )
    sources = [line for line in mmdebstrap.read_text().splitlines() if line.startswith("deb ")]
    wanted = [suite, "trixie"] if suite == "forky" else [suite]
    assert sources == [f"deb [check-valid-until=no] {MIRROR} {each} main" for each in wanted]


def test_every_suite_has_an_image_of_its_own() -> None:
    assert len({image.recipe(suite) for suite in SUITES}) == len(SUITES)


def test_an_image_is_built_anew_when_its_suite_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    before, own = {suite: image.recipe(suite) for suite in SUITES}, SUITES["forky"]
    for changed in (
        replace(own, setup="true\n"),
        replace(own, offered="x"),
        replace(own, installed="x"),
        replace(own, preferences="x"),
    ):
        monkeypatch.setitem(SUITES, "forky", changed)
        assert image.recipe("forky") != before["forky"]
        assert image.recipe("trixie") == before["trixie"]


def test_an_unknown_suite_is_told_with_those_that_there_are() -> None:
    with pytest.raises(LabError) as caught:
        image.image("sid")
    assert (str(caught.value), caught.value.hint) == (
        "unknown suite 'sid'", "use one of: bookworm, trixie, forky"
    )  # fmt: skip
