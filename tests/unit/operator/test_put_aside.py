"""What somebody else's files are kept as, before they are replaced or taken out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from certsync.model.answers import Proven
from certsync.model.errors import RefusedError
from certsync.model.finding import Finding
from certsync.operator.change import Addition, Change
from certsync.operator.cli import changing
from certsync.operator.commands import add_backend
from certsync.operator.fleet_file import FleetFile
from certsync.operator.hosts import issuer_side
from certsync.operator.hosts.facts import Adopt
from certsync.operator.hosts.survey import Survey
from deploy import step
from tests.unit.fake_fleet import NOW, fleet
from tests.unit.steps import program, taken


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a site of somebody else's, by the link that enables it."""
    available = tmp_path / "sites-available/their's"
    enabled = tmp_path / "sites-enabled/their's"
    for each in (available, enabled):
        each.parent.mkdir()
    available.write_text("server { listen 8080; }\n")
    enabled.symlink_to(os.path.relpath(available, enabled.parent))
    return enabled


def put_aside(backups: Path, *paths: Path, remove: bool = True, cwd: Path) -> None:
    done = taken(backups.parent, script(backups, *paths, remove=remove), cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")


def script(backups: Path, *paths: Path, remove: bool) -> str:
    made = step.kept_aside("aside", [str(each) for each in paths], remove=remove)
    return f"BACKUPS={backups}\n{made.script}"


def copies(backups: Path, path: Path) -> list[str]:
    return [each.read_text() for each in backups.glob(f"[0-9]*-[0-9]*{path}")]


def test_a_file_is_kept_with_its_date_wherever_the_login_shell_begins(
    site: Path, tmp_path: Path
) -> None:
    put_aside(tmp_path / "backups", site, cwd=tmp_path)
    assert copies(tmp_path / "backups", site) == ["server { listen 8080; }\n"]
    assert not site.is_symlink()


def test_what_was_interrupted_before_the_file_was_gone_leaves_one_copy_when_it_is_retried(
    site: Path, tmp_path: Path
) -> None:
    backups = tmp_path / "backups"
    unfinished = backups / ".unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "half").write_text("serv")
    for remove in (False, False, True):
        put_aside(backups, site, remove=remove, cwd=tmp_path)
    assert len(copies(backups, site)) == 1
    assert not unfinished.exists()


def test_one_that_is_not_what_was_kept_before_is_kept_too(site: Path, tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    (backups / "20260101-000000").mkdir(parents=True)
    before = Path(f"{backups}/20260101-000000{site}")
    before.parent.mkdir(parents=True)
    before.write_text("an older one\n")
    put_aside(backups, site, cwd=tmp_path)
    assert sorted(copies(backups, site)) == ["an older one\n", "server { listen 8080; }\n"]


def test_two_in_the_same_second_are_both_kept(site: Path, tmp_path: Path) -> None:
    program(tmp_path, "date", "echo 20260101-000000")
    texts = ["first\n", "second\n", "third\n"]
    for text in texts:
        site.write_text(text)
        put_aside(tmp_path / "backups", site, remove=False, cwd=tmp_path)
    assert sorted(copies(tmp_path / "backups", site)) == texts


def test_a_copy_that_cannot_be_made_whole_holds_no_space(site: Path, tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    done = taken(tmp_path, script(backups, site, tmp_path / "missing", remove=True))
    assert done.returncode == 1
    assert list(backups.iterdir()) == []
    assert site.is_symlink()


def test_a_backend_that_joins_is_looked_at_as_one_whose_files_may_be_taken_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def look_at_new(_fleet: object, _new: object, _now: object, adopt: Adopt) -> list[Finding]:
        asked.append(adopt)
        return [] if adopt.nginx else [Finding("backend-03", "a site of somebody else's")]

    monkeypatch.setattr(add_backend, "look_at_new", look_at_new)
    monkeypatch.setattr(issuer_side, "refuse_what_is_not_deployed", lambda *_: None)
    monkeypatch.setattr(issuer_side, "proven", lambda *_: Proven("0001"))
    joining = add_backend.Joining(
        FleetFile(tmp_path, b"", Change(add=(Addition("backend-03", "203.0.113.13"),))),
        fleet(), Adopt(nginx=True, haproxy=True),
    )  # fmt: skip
    add_backend._look(joining, NOW)
    assert asked == [Adopt(nginx=True, haproxy=True)]
    options = joining.request.options
    assert (options.adopt_nginx, options.adopt_haproxy) == (True, True)
    careful = add_backend.Joining(joining.file, fleet(), Adopt())
    with pytest.raises(RefusedError, match="a site of somebody else's"):
        add_backend._look(careful, NOW)


def test_add_backend_takes_what_deploy_takes() -> None:
    names = {option for each in changing.add_backend.params for option in each.opts}
    assert {"--adopt-nginx", "--adopt-haproxy"} <= names


def test_a_content_that_cannot_be_read_here_fails_the_host_that_it_is_for() -> None:
    def full() -> str:
        raise OSError(28, "No space left on device", "/root/.cache/certsync")

    assert step.file(Survey(), "it", "/etc/x", full) == step.failing(
        "it", "error: [Errno 28] No space left on device: '/root/.cache/certsync'"
    )
