"""An installed certsync, from a wheel and in any folder: a deploy without a checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import Lab
from lab.world import CHECKOUT
from tests.e2e.conftest import BringUp
from tests.e2e.road import NAME, Ended, Road

HIDDEN = 'mount -t tmpfs certsync-hidden "$1" && shift && exec "$@"'
"""Runs a command in a mount namespace where the checkout is an empty folder."""


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel in it, and a folder to work in."""

    venv: Path
    folder: Path
    road: Road

    def run(self, *argv: str, seconds: float = 300) -> Ended:
        """Run a command on the operator's machine, with the checkout out of sight."""
        kept = ("HOME", "XDG_CACHE_HOME", "LANG", "TERM")
        environment = {key: os.environ[key] for key in kept if key in os.environ}
        environment["PATH"] = f"{self.venv}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        hiding = ["unshare", "--mount", "sh", "-c", HIDDEN, "sh", str(CHECKOUT)]
        print("$", *argv)
        done = subprocess.run(
            [*self.road.lab.operator_argv(), *hiding, *argv],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        print(done.stdout, done.stderr, f"exit {done.returncode}", sep="\n")
        return Ended(done.returncode, done.stdout, done.stderr)

    def certsync(self, *words: str) -> Ended:
        """Run certsync."""
        return self.run("certsync", *words)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(CHECKOUT))
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(
    wheel: Path, bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installed]:
    """Return an environment with what the wheel asks for, pip's choice limited by our pins.

    The packages are those that script/setup has put into the operator's cache.
    """
    venv, folder = tmp_path_factory.mktemp("venv"), tmp_path_factory.mktemp("anywhere")
    base = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([base, "-m", "venv", str(venv)], check=True)
    pins = folder.parent / "pins.txt"
    # pip takes no hash for a wheel just built; those of the others were checked when fetched.
    lines = (CHECKOUT / "constraints.txt").read_text().splitlines()
    pins.write_text("".join(f"{line.rstrip(chr(92))}\n" for line in lines if "==" in line))
    pip("install", "--no-index", "--find-links", str(packages()), "--constraint", str(pins),
        f"certsync-fleet[deploy] @ {wheel.as_uri()}", python=venv / "bin/python")  # fmt: skip
    with bring_up(Lab("installed")) as lab:
        yield Installed(venv, folder, Road(lab, tmp_path_factory.mktemp("road")))


def packages() -> Path:
    """Return the folder of the operator's packages, which script/setup fills."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "certsync/operator"


def pip(*words: str, python: Path = Path(sys.executable)) -> None:
    """Run pip, and show what it says if it fails."""
    argv = [str(python), "-I", "-m", "pip", "--disable-pip-version-check", "--quiet", *words]
    done = subprocess.run(argv, cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_runs_is_the_wheels_and_the_checkout_is_out_of_sight(installed: Installed) -> None:
    program = "import certsync, os, sys; print(certsync.__file__); print(os.listdir(sys.argv[1]))"
    ended = installed.run("python", "-c", program, str(CHECKOUT))
    file, listing = ended.stdout.splitlines()
    assert Path(file).is_relative_to(installed.venv)
    assert listing == "[]"


def test_a_fleet_file_is_written_edited_and_found_without_mistakes(installed: Installed) -> None:
    ended = installed.certsync("init")
    assert ended.status == 0, ended.everything
    assert sorted(path.name for path in installed.folder.iterdir()) == ["fleet.py", "fleet.toml"]
    # A person edits what the file tells them to; the lab's fleet has all of it.
    (installed.folder / "fleet.toml").write_text(installed.road.fleet_file.read_text())
    ended = installed.certsync("check", "fleet.toml", "--online")
    assert ended.status == 0, ended.everything
    assert "fleet.toml is fine: 2 names, issuer backend-01, 2 replicas, 1 balancer" in ended.stdout
    assert "every host is ready" in ended.stdout


def test_a_template_of_the_fleets_own_that_overrides_nothing_stops_a_deploy(
    installed: Installed, request: pytest.FixtureRequest
) -> None:
    misspelt = installed.folder / "templates/nginx/sites.conf.j2"
    misspelt.parent.mkdir(parents=True)
    misspelt.write_text("x")
    request.addfinalizer(misspelt.unlink)
    for verb in ("check", "deploy"):
        ended = installed.certsync(verb, "fleet.toml")
        assert ended.status == 2
        told = "templates/nginx/sites.conf.j2: replaces no template"
        assert told in ended.stderr
        hint = ended.stderr.partition("hint: certsync has: ")[2]
        assert {"haproxy/haproxy.cfg.j2", "nginx/site.conf.j2"} <= set(hint.strip().split(", "))


def test_a_dry_run_says_what_the_road_would_be(installed: Installed) -> None:
    ended = installed.certsync("deploy", "fleet.toml", "--dry-run")
    assert ended.status == 0, ended.everything
    assert "    Order the certificate, depending on whether one is due" in ended.stdout


def test_the_whole_road_with_a_template_of_ones_own(installed: Installed) -> None:
    road = installed.road
    ours = installed.venv / "lib"
    [site] = ours.glob("python*/site-packages/certsync/_road/templates/nginx/site.conf.j2")
    text = site.read_text().split("\n", 1)[1]
    own = text.replace("location = /lb.html {", "location = /lb.html {\n add_header X-Own yes;")
    (installed.folder / "templates/nginx/site.conf.j2").write_text(own)
    checked = installed.certsync("check", "fleet.toml")
    assert "templates/nginx/site.conf.j2 replaces certsync's own" in checked.stdout
    ended = installed.certsync("deploy", "fleet.toml")
    assert ended.status == 0, ended.everything
    assert f"open https://{NAME}/lb.html" in ended.stdout
    assert road.pages() == {machine.name for machine in road.lab.backends}
    shown = road.operator(
        "curl", "-sSi", "--cacert", str(road.lab.ca.roots), f"https://{NAME}/lb.html"
    )
    assert re.search(r"^x-own: yes\r?$", shown.stdout, re.MULTILINE)


def test_a_second_deploy_knows_the_files_for_its_own_and_changes_nothing(
    installed: Installed,
) -> None:
    ended = installed.certsync("deploy", "fleet.toml")
    assert ended.status == 0, ended.everything
    assert "\n0 changes\n" in ended.stderr
    assert installed.certsync("status", "fleet.toml").status == 0


def test_the_issuer_is_told_no_path_of_the_operators_machine(installed: Installed) -> None:
    rendered = installed.road.issuer.sh("cat /etc/certsync/fleet.json")
    assert str(installed.folder) not in rendered


PACKAGE = "/opt/certsync/current/lib/python3*/site-packages/certsync"


def test_an_issuer_has_what_runs_there_and_offers_what_works_there(installed: Installed) -> None:
    issuer = installed.road.issuer
    rooms = issuer.sh(f"cd {PACKAGE} && ls -d */ | grep -v pycache").split()
    assert rooms == ["issuer/", "model/", "programs/", "system/"]
    shown = issuer.sh("certsync --help")
    assert "On the issuer:\n" in shown
    assert "On your machine" not in shown
    status, told = issuer.attempt("certsync deploy fleet.toml")
    assert (status, "No such command 'deploy'" in told) == (2, True)


def test_what_changes_on_the_operators_side_alone_makes_no_other_release_there(
    installed: Installed,
) -> None:
    issuer = installed.road.issuer
    release = issuer.sh("readlink /opt/certsync/current")
    [room] = (installed.venv / "lib").glob("python*/site-packages/certsync/operator")
    for path in ("cli.py", "fleet_file/template.toml", "commands/deploy.py"):
        with (room / path).open("a") as file:
            file.write("# a comment\n")
    ended = installed.certsync("deploy", "fleet.toml")
    assert ended.status == 0, ended.everything
    assert "\n0 changes\n" in ended.stderr
    assert issuer.sh("readlink /opt/certsync/current") == release
    # It would refuse to have another release than its own give its account back.
    ended = installed.certsync("promote", "fleet.toml", "backend-02", "--dry-run")
    assert ended.status == 0, ended.everything
