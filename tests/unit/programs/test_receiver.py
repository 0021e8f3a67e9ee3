"""Root's program on every backend: what it takes, and what it refuses. With real openssl files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import syslog
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certsync.model.server import Server
from certsync.programs import receiver
from certsync.programs.receiver import Refused

NAME = "passthrough.example.com"


def openssl(*argv: str) -> None:
    subprocess.run(["openssl", *argv], check=True, capture_output=True)


def make_pair(folder: Path, *, days: int = 30, name: str = NAME) -> None:
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-subj", "/CN=test", "-addext", f"subjectAltName=DNS:{name}", "-days", str(days),
        "-keyout", str(folder / "privkey.pem"), "-out", str(folder / "cert.pem"),
    )  # fmt: skip


def seal(folder: Path, number: str = "0001", **changes: Any) -> Path:
    """Write the rest of a generation around a key and a certificate."""
    (folder / "chain.pem").write_bytes(b"")
    (folder / "fullchain.pem").write_bytes((folder / "cert.pem").read_bytes())
    sums = {name: receiver.digest((folder / name).read_bytes()) for name in receiver.PEM_FILES}
    manifest = {
        "schema": 1, "lineage": NAME, "number": number, "names": [NAME], "files": sums, **changes,
    }  # fmt: skip
    (folder / receiver.MANIFEST).write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the receiver a home of its own."""
    monkeypatch.setattr(receiver, "HOME", tmp_path / "certsync")
    monkeypatch.setattr(receiver, "INBOX", tmp_path / "inbox")
    return tmp_path / "certsync"


@pytest.fixture
def generation(tmp_path: Path) -> Path:
    """Return a good generation 0001."""
    folder = tmp_path / "generation"
    folder.mkdir()
    make_pair(folder)
    return seal(folder)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test be a process that has found nothing good yet."""
    monkeypatch.setattr(receiver, "VERIFIED", {})
    monkeypatch.setattr(receiver, "TESTED", set())


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def verify(folder: Path, number: str = "0001", now: float | None = None) -> None:
    receiver.verify(folder, NAME, number, time.time() if now is None else now)


def test_a_good_generation_is_accepted(generation: Path) -> None:
    verify(generation)


def test_a_truncated_file_is_refused(generation: Path) -> None:
    with (generation / "privkey.pem").open("r+b") as file:
        file.truncate(20)
    with pytest.raises(Refused, match=r"privkey\.pem does not match the manifest"):
        verify(generation)


def test_a_key_of_another_certificate_is_refused_though_its_sum_is_right(
    generation: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    make_pair(other)
    (generation / "privkey.pem").write_bytes((other / "privkey.pem").read_bytes())
    seal(generation)
    with pytest.raises(Refused, match="the private key does not belong to the certificate"):
        verify(generation)


def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    make_pair(tmp_path, name="other.example.com")
    seal(tmp_path, names=["other.example.com"])
    with pytest.raises(Refused, match=r"the certificate is for other\.example\.com"):
        verify(tmp_path)


def test_an_expired_certificate_is_refused(generation: Path) -> None:
    with pytest.raises(Refused, match="has expired; is this host's clock right"):
        verify(generation, now=time.time() + 31 * 86400)


def test_a_certificate_from_the_future_is_refused(generation: Path) -> None:
    verify(generation, now=time.time() - 200)
    with pytest.raises(Refused, match="not valid yet; is this host's clock right"):
        verify(generation, now=time.time() - 86400)


def test_a_full_chain_that_is_not_leaf_and_chain_is_refused(generation: Path) -> None:
    seal(generation)
    (generation / "fullchain.pem").write_bytes(b"x")
    text = json.loads((generation / receiver.MANIFEST).read_text())
    text["files"]["fullchain.pem"] = receiver.digest(b"x")
    (generation / receiver.MANIFEST).write_text(json.dumps(text))
    with pytest.raises(Refused, match=r"fullchain.pem is not cert.pem followed by chain.pem"):
        verify(generation)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"number": "0002"}, f"the manifest does not belong to {NAME} 0001"),
        ({"lineage": "other"}, f"the manifest does not belong to {NAME} 0001"),
        ({"schema": 2}, "the manifest has schema 2, this receiver reads up to 1"),
        ({"files": []}, "no readable manifest"),
        ({"schema": "1"}, "no readable manifest"),
    ],
)
def test_a_manifest_that_is_not_this_generations_is_refused(
    generation: Path, changes: dict[str, Any], words: str
) -> None:
    seal(generation, **changes)
    with pytest.raises(Refused, match=words):
        verify(generation)


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"\xff\xfe{}", b"[" * 60000, b'{"a":' * 10000, b"9" * 60000],
    ids=["nothing", "null", "list", "no UTF-8", "deep list", "deep object", "huge number"],
)
def test_a_manifest_that_is_none_is_refused(generation: Path, content: bytes) -> None:
    (generation / receiver.MANIFEST).write_bytes(content)
    with pytest.raises(Refused, match="no readable manifest"):
        verify(generation)


def test_a_key_behind_a_pass_phrase_is_refused_and_nobody_is_asked_for_it(
    generation: Path,
) -> None:
    key, locked = generation / "privkey.pem", generation / "locked"
    openssl("pkey", "-in", str(key), "-aes128", "-passout", "pass:secret", "-out", str(locked))
    locked.rename(key)
    seal(generation)
    with pytest.raises(Refused, match="key and certificate cannot be read"):
        verify(generation)


def test_a_key_of_another_kind_is_refused(generation: Path) -> None:
    openssl("genpkey", "-algorithm", "RSA", "-out", str(generation / "privkey.pem"))
    seal(generation)
    with pytest.raises(Refused, match="the private key does not belong to the certificate"):
        verify(generation)


def test_what_was_found_good_is_looked_at_again_only_by_its_sums(
    generation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify(generation)
    monkeypatch.setattr(receiver, "verify_contents", None)
    verify(generation)
    with pytest.raises(Refused, match="has expired"):
        verify(generation, now=time.time() + 31 * 86400)
    (generation / "chain.pem").write_text("x")
    with pytest.raises(Refused, match=r"chain\.pem does not match the manifest"):
        verify(generation)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("placeholder example.com", "no such verb"),
        ("boot", "no such verb"),
        ("", "no such verb"),
        ("check ../../etc 0001", "no such name or number"),
        ("check a..b 0001", "no such name or number"),
        ("check -x 0001", "no such name or number"),
        ("check example.com 1", "no such name or number"),
        ("check example.com 0001;id", "no such name or number"),
        ("check example.com ١٢٣٤", "no such name or number"),
        ("check example.com 0001 more", "no such verb"),
        ("check example.com 0000", "generation 0000 is each backend's own"),
        ("activate example.com 0000", "generation 0000 is a placeholder and cannot be activated"),
        ("discard example.com 0000", "generation 0000 is each backend's own"),
        ("discard example.com", "generation 0000 is each backend's own"),
        ("discard ../../etc 0001", "no such name or number"),
        ("discard example.com ../..", "no such name or number"),
        ("discard example.com *", "no such name or number"),
        ("discard example.com 00001", "no such name or number"),
        ("discard example.com 0001 0002", "no such verb"),
        ("tickets example.com 0001", "no such verb"),
        ("tickets ", "no such verb"),
        (" tickets", "no such verb"),
        ("Tickets", "no such verb"),
        ("own-tickets", "no such verb"),
    ],
)
def test_a_hostile_line_is_refused(home: Path, line: str, why: str) -> None:
    with pytest.raises(Refused, match=f"^{why}"):
        receiver.answer(line)
    assert not (home / "live").exists()


def test_the_live_link_is_relative_and_replaced_in_one_rename(home: Path) -> None:
    receiver.point(NAME, "0001")
    receiver.point(NAME, "0002")
    assert (home / "live" / NAME).readlink() == Path(f"../archive/{NAME}/0002")
    assert names(home / "live") == [NAME]


def test_the_placeholder_is_made_once_and_is_a_whole_generation(home: Path) -> None:
    assert receiver.placeholder(NAME, "www.example.com") == {"current": "0000", "changed": True}
    folder = home / "archive" / NAME / "0000"
    receiver.verify_sums(folder)
    receiver.verify_pair(folder)
    key = (folder / "privkey.pem").read_bytes()
    assert receiver.placeholder(NAME) == {"current": "0000", "changed": False}
    assert (folder / "privkey.pem").read_bytes() == key
    assert (folder / "privkey.pem").stat().st_mode & 0o777 == 0o600
    assert names(home / "staging") == []


def test_boot_falls_back_from_a_damaged_generation_to_the_last_whole_one(
    home: Path, generation: Path
) -> None:
    receiver.placeholder(NAME)
    receiver.keep(generation, NAME, "0001")
    receiver.point(NAME, "0001")
    assert receiver.boot() == {"fell_back": {}}
    (home / "archive" / NAME / "0001" / "cert.pem").write_text("")
    assert receiver.boot()["fell_back"][NAME]["to"] == "0000"
    assert receiver.current_number(NAME) == "0000"


def test_current_tells_only_generations_that_are_whole(home: Path, generation: Path) -> None:
    receiver.placeholder(NAME)
    receiver.keep(generation, NAME, "0001")
    whole = receiver.current(NAME)["generations"]
    assert sorted(whole) == ["0000", "0001"]
    (home / "archive" / NAME / "0001" / "chain.pem").unlink()
    assert sorted(receiver.current(NAME)["generations"]) == ["0000"]


def test_a_plain_file_of_the_largest_size_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    (tmp_path / "file").write_bytes(b"x" * receiver.LARGEST)
    assert len(receiver.read_regular("file", folder)) == receiver.LARGEST
    (tmp_path / "file").write_bytes(b"x" * (receiver.LARGEST + 1))
    with pytest.raises(Refused, match="file is larger than 65536 bytes"):
        receiver.read_regular("file", folder)
    os.close(folder)


@pytest.mark.parametrize("kind", ["symlink", "hard link", "fifo", "folder", "nothing"])
def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    target, path = tmp_path / "target", tmp_path / "file"
    target.write_text("secret")
    makers: dict[str, Callable[[], object]] = {
        "symlink": lambda: path.symlink_to(target),
        "hard link": lambda: path.hardlink_to(target),
        "fifo": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "nothing": lambda: None,
    }
    makers[kind]()
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(Refused, match=r"^inbox: file"):
        receiver.read_regular("file", folder)
    os.close(folder)


def test_what_an_interrupted_run_staged_is_cleared(home: Path) -> None:
    receiver.write_generation({"cert.pem": b"x"}, NAME, "0001")
    assert names(home / "staging") != []
    receiver.clear_staging()
    assert names(home / "staging") == []


# The inbox


@pytest.fixture
def inbox(home: Path, generation: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an inbox with a good generation 0001, on a host where nginx likes everything."""
    monkeypatch.setattr(receiver, "rights_of", contextlib.nullcontext)
    monkeypatch.setattr(receiver, "try_server", lambda *_: None)
    monkeypatch.setattr(receiver.SERVER, "reload", lambda: None)
    inbox = home.parent / "inbox"
    shutil.copytree(generation, inbox)
    return inbox


def test_what_is_received_is_kept_and_the_inbox_is_empty_then(home: Path, inbox: Path) -> None:
    assert receiver.check(NAME, "0001") == {"checked": "0001"}
    assert names(inbox) == names(home / "staging") == []
    receiver.verify_sums(home / "archive" / NAME / "0001")


def test_what_is_refused_leaves_neither_inbox_nor_staging_behind(home: Path, inbox: Path) -> None:
    (inbox / "privkey.pem").unlink()
    os.mkfifo(inbox / "privkey.pem")
    (inbox / "folder/in/folder").mkdir(parents=True)
    with pytest.raises(Refused, match=r"^inbox: privkey\.pem is not a regular file"):
        receiver.check(NAME, "0001")
    assert names(inbox) == []
    assert not (home / "archive").exists()


def test_an_interrupted_push_does_not_stop_a_generation_that_is_kept(inbox: Path) -> None:
    receiver.check(NAME, "0001")
    for name in ("cert.pem", receiver.MANIFEST):
        (inbox / name).write_text("what the power cut left")
    assert receiver.check(NAME, "0001") == {"checked": "0001"}
    assert names(inbox) == []


def test_what_is_tried_is_checked_and_not_kept(home: Path, inbox: Path) -> None:
    assert receiver.try_out(NAME, "0001") == {"tried": "0001"}
    assert names(inbox) == names(home / "staging") == []
    assert not (home / "archive").exists()
    with pytest.raises(Refused, match="nothing has been received to test"):
        receiver.try_out(NAME, "0001")


def test_what_is_not_good_is_refused_when_it_is_tried_and_nothing_is_left(
    home: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise Refused("nginx: no")

    with pytest.raises(Refused, match="the manifest does not belong to"):
        receiver.try_out(NAME, "0002")
    shutil.copytree(home.parent / "generation", inbox, dirs_exist_ok=True)
    monkeypatch.setattr(receiver, "try_server", refuse)
    with pytest.raises(Refused, match="nginx: no"):
        receiver.try_out(NAME, "0001")
    assert names(inbox) == names(home / "staging") == []


def test_a_host_without_an_inbox_has_nothing_to_be_tried(home: Path, inbox: Path) -> None:
    shutil.rmtree(inbox)
    with pytest.raises(Refused, match="nothing has been received to test"):
        receiver.try_out(NAME, "0001")
    with pytest.raises(Refused, match="generation 0000 is each backend's own"):
        receiver.try_out(NAME, "0000")
    assert not home.exists()


def test_what_a_killed_rehearsal_has_left_does_not_stop_a_generation_that_is_kept(
    home: Path, inbox: Path
) -> None:
    receiver.check(NAME, "0001")
    make_pair(inbox)
    seal(inbox, "9999")
    assert receiver.check(NAME, "0001") == {"checked": "0001"}
    assert names(inbox) == []
    assert names(home / "archive" / NAME) == ["0001"]


def test_another_generation_of_a_number_that_is_kept_is_refused(home: Path, inbox: Path) -> None:
    receiver.check(NAME, "0001")
    before = (home / "archive" / NAME / "0001" / "privkey.pem").read_bytes()
    make_pair(inbox)
    seal(inbox)
    with pytest.raises(Refused, match="a different generation 0001 is already kept here"):
        receiver.check(NAME, "0001")
    assert (home / "archive" / NAME / "0001" / "privkey.pem").read_bytes() == before


def test_a_damaged_copy_is_replaced_by_a_good_one_of_the_same_number(
    home: Path, inbox: Path, generation: Path
) -> None:
    receiver.check(NAME, "0001")
    (home / "archive" / NAME / "0001" / "cert.pem").write_text("")
    shutil.copytree(generation, inbox, dirs_exist_ok=True)
    receiver.check(NAME, "0001")
    receiver.verify_sums(home / "archive" / NAME / "0001")
    assert names(home / "staging") == []


def test_a_full_disk_leaves_nothing_in_staging(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    receiver.HOME.mkdir()
    (home / "staging").mkdir()
    with pytest.raises(OSError, match="No space left"):
        receiver.write_generation({"privkey.pem": b"secret"}, NAME, "0001")
    assert names(home / "staging") == []


@pytest.mark.usefixtures("inbox")
@pytest.mark.parametrize("error", [Refused("nginx says no"), FileNotFoundError(2, "no", "nginx")])
def test_the_link_goes_back_whatever_stops_the_reload(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    receiver.placeholder(NAME)
    receiver.check(NAME, "0001")

    def fail() -> None:
        raise error

    monkeypatch.setattr(receiver.SERVER, "reload", fail)
    with pytest.raises(type(error)):
        receiver.activate(NAME, "0001")
    assert receiver.current_number(NAME) == "0000"


@pytest.mark.usefixtures("inbox")
def test_nginx_is_tested_once_with_each_generation_that_a_process_makes_live(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested: list[str] = []
    monkeypatch.setattr(receiver, "try_server", lambda folder, _: tested.append(str(folder)))
    receiver.check(NAME, "0001")
    assert len(tested) == 1
    assert str(home / "staging") in tested[0]
    receiver.activate(NAME, "0001")
    assert len(tested) == 1
    receiver.TESTED.clear()
    receiver.activate(NAME, "0001")
    assert tested[1:] == [str(home / "archive" / NAME / "0001")]


@pytest.mark.parametrize(
    ("overlaid", "alone", "code"),
    [
        pytest.param(98, 0, "content", id="nginx refuses it, and not what is live"),
        pytest.param(98, 1, "host", id="nginx refuses what is live, too"),
        pytest.param(1, 0, "host", id="it cannot be laid over what is live"),
    ],
)
def test_nginx_refuses_for_the_generation_or_for_the_host(
    home: Path, monkeypatch: pytest.MonkeyPatch, overlaid: int, alone: int, code: str
) -> None:
    def run(*argv: str) -> str:
        if status := overlaid if argv[0] == "unshare" else alone:
            raise receiver.Failed("no", status)
        return ""

    receiver.placeholder(NAME)
    monkeypatch.setattr(receiver, "run", run)
    with pytest.raises(Refused) as caught:
        receiver.try_server(home, NAME)
    assert caught.value.code == code


def test_a_refusal_says_whether_the_generation_is_the_reason(
    generation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def code(work: Callable[[], None]) -> str:
        def asked() -> dict[str, Any]:
            work()
            return {}

        return str(receiver.run_verb(asked)["code"])

    assert code(lambda: verify(generation, now=0)) == "host"
    (generation / "fullchain.pem").write_bytes(b"")
    assert code(lambda: verify(generation)) == "host"
    make_pair(generation, name="other.example.com")
    seal(generation)
    assert code(lambda: verify(generation)) == "content"
    monkeypatch.setattr(receiver, "read_manifest", lambda _: 1 / 0)
    assert code(lambda: verify(generation)) == "host"


def test_a_full_disk_is_no_refusal_of_a_generation() -> None:
    def full(*_: str) -> dict[str, Any]:
        raise OSError(errno.ENOSPC, "No space left on device", "/etc/certsync")

    assert receiver.run_verb(full)["code"] == "host"


@pytest.mark.parametrize(
    ("comm", "asked"),
    [
        ("nginx\n", [receiver.NGINX, "-q", "-s", "reload"]),
        ("bash\n", ["systemctl", "reload-or-restart", "nginx.service"]),
        ("", ["systemctl", "reload-or-restart", "nginx.service"]),
    ],
    ids=["it runs", "its number is another's now", "it does not run"],
)
def test_nginx_is_sent_its_signal_only_where_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comm: str, asked: list[str]
) -> None:
    pid = tmp_path / "nginx.pid"
    ran: list[str] = []
    if comm:
        pid.write_text(f"{os.getpid()}\n")
        own = Path(f"/proc/{os.getpid()}/comm")
        before = own.read_text()
        own.write_text(comm.strip())
    monkeypatch.setattr(receiver, "NGINX_PID", pid)
    monkeypatch.setattr(receiver, "run", lambda *argv: ran.extend(argv))
    receiver.SERVER.reload()
    if comm:
        own.write_text(before.strip())
    assert ran == asked


# Pruning


def kept_generations(home: Path, *numbers: str) -> Path:
    """Have empty generations in the archive, which is returned."""
    archive = home / "archive" / NAME
    for number in numbers:
        (archive / number).mkdir(parents=True)
    return archive


@pytest.mark.parametrize(
    ("there", "current", "pruned"),
    [
        (["0000", "0001", "0002", "0003"], "0003", []),
        (["0000", "0001", "0002", "0003", "0004"], "0004", ["0001"]),
        (["0000", "0001", "0002", "0003", "0004", "0005"], "0001", ["0002"]),
        (["0000", "0001", "0002", "0003", "0004", "0009"], "0009", ["0001", "0002"]),
        (["0000", "0001"], "0000", []),
        (["0001", "0002", "0003", "0004"], "", ["0001"]),
    ],
)
def test_the_live_one_and_the_three_newest_and_the_placeholder_stay(
    home: Path, there: list[str], current: str, pruned: list[str]
) -> None:
    archive = kept_generations(home, *there)
    if current:
        receiver.point(NAME, current)
    assert receiver.prune(NAME) == pruned
    assert sorted(names(archive)) == sorted(set(there) - set(pruned))
    assert not (home / "staging").exists() or names(home / "staging") == []


def test_activation_tells_what_it_has_pruned(home: Path, inbox: Path) -> None:
    archive = kept_generations(home, "0000", "0002", "0003", "0004", "0005")
    receiver.point(NAME, "0000")
    assert receiver.check(NAME, "0001") == {"checked": "0001"}
    told = receiver.activate(NAME, "0001")
    assert told == {"current": "0001", "before": "0000", "pruned": ["0002"]}
    assert sorted(names(archive)) == ["0000", "0001", "0003", "0004", "0005"]
    assert names(inbox) == []


@pytest.mark.usefixtures("inbox")
def test_what_cannot_be_pruned_fails_no_activation(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_generations(home, "0002", "0003", "0004", "0005")
    receiver.check(NAME, "0001")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "mkdtemp", fail)
    assert receiver.activate(NAME, "0001")["pruned"] == []
    assert receiver.current_number(NAME) == "0001"


# A compromised key


def test_a_generation_is_discarded_whole_and_the_others_stay(home: Path) -> None:
    archive = kept_generations(home, "0000", "0001", "0002")
    (archive / "0001" / "privkey.pem").write_text("leaked")
    receiver.point(NAME, "0002")
    assert receiver.answer(f"discard {NAME} 0001") == {"discarded": "0001"}
    assert sorted(names(archive)) == ["0000", "0002"]
    assert names(home / "staging") == []
    assert receiver.current_number(NAME) == "0002"


def test_a_live_generation_is_not_discarded(home: Path) -> None:
    archive = kept_generations(home, "0000", "0001")
    receiver.point(NAME, "0001")
    with pytest.raises(Refused, match=r"^generation 0001 is live$"):
        receiver.answer(f"discard {NAME} 0001")
    assert sorted(names(archive)) == ["0000", "0001"]


def test_one_that_is_not_there_is_as_good_as_discarded(home: Path) -> None:
    assert receiver.answer(f"discard {NAME} 0007") == {"discarded": "0007"}
    assert not home.exists()
    kept_generations(home, "0000", "0001")
    assert receiver.answer("discard other.example.com 0001") == {"discarded": "0001"}
    assert names(home / "archive") == [NAME]


def test_what_an_interrupted_run_has_put_aside_goes_with_it(home: Path) -> None:
    kept_generations(home, "0001", "0002")
    receiver.point(NAME, "0002")
    receiver.put_aside(home / "archive" / NAME / "0001")
    assert len(names(home / "staging")) == 1
    assert receiver.answer(f"discard {NAME} 0001") == {"discarded": "0001"}
    assert names(home / "staging") == []


def test_what_an_interrupted_push_has_left_goes_with_it_too(inbox: Path) -> None:
    assert names(inbox) != []
    assert receiver.answer(f"discard {NAME} 0007") == {"discarded": "0007"}
    assert names(inbox) == []


def test_a_link_in_the_place_of_a_generation_leads_to_nothing_that_is_deleted(
    home: Path, tmp_path: Path
) -> None:
    archive = kept_generations(home, "0002")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("stays")
    (archive / "0001").symlink_to(elsewhere)
    assert receiver.answer(f"discard {NAME} 0001") == {"discarded": "0001"}
    assert names(archive) == ["0002"]
    assert names(elsewhere) == ["file"]


def test_what_cannot_be_deleted_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_generations(home, "0001")
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(Refused, match=r"staging: pruned\.\w+ cannot be removed$"):
        receiver.answer(f"discard {NAME} 0001")


# Boot


def test_boot_makes_a_placeholder_where_no_generation_is_whole(home: Path) -> None:
    receiver.placeholder(NAME)
    (home / "archive" / NAME / "0000" / "privkey.pem").write_text("")
    assert receiver.boot()["fell_back"][NAME]["to"] == "0000"
    receiver.verify_whole(home / "live" / NAME)


@pytest.mark.parametrize("lost", ["live", "archive"])
def test_boot_mends_a_lost_link_or_a_lost_archive(home: Path, generation: Path, lost: str) -> None:
    receiver.placeholder(NAME)
    receiver.keep(generation, NAME, "0001")
    receiver.point(NAME, "0001")
    shutil.rmtree(home / lost)
    told = receiver.boot()["fell_back"]
    assert told[NAME]["to"] == ("0001" if lost == "live" else "0000")
    receiver.verify_whole(home / "live" / NAME)


@pytest.mark.parametrize("lost", ["link", "what it leads to"])
def test_a_lost_live_link_keeps_no_certificate_away(
    home: Path, generation: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    over: list[str] = []
    monkeypatch.setattr(receiver.SERVER, "test", lambda _, live: over.append(live.name))
    monkeypatch.setattr(receiver.SERVER, "reload", lambda: None)
    receiver.placeholder(NAME)
    receiver.keep(generation, NAME, "0001")
    receiver.point(NAME, "0007")
    if lost == "link":
        (home / "live" / NAME).unlink()
    assert receiver.activate(NAME, "0001")["current"] == "0001"
    assert over == ["0001"]


def test_one_lineage_without_a_whole_generation_does_not_hold_up_another(
    home: Path, generation: Path
) -> None:
    receiver.placeholder("another.example.com")
    (home / "archive/another.example.com/0000/cert.pem").unlink()
    receiver.placeholder(NAME)
    receiver.keep(generation, NAME, "0001")
    receiver.point(NAME, "0001")
    (home / "archive" / NAME / "0001" / "cert.pem").unlink()
    assert set(receiver.boot()["fell_back"]) == {NAME, "another.example.com"}
    receiver.verify_whole(home / "live" / NAME)


# The program


Program = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """Start the receiver as a process, with a home of its own."""
    setting = (
        "import sys; from pathlib import Path; from certsync.programs import receiver; "
        f"receiver.HOME = Path({str(tmp_path / 'home')!r}); "
        f"receiver.INBOX = Path({str(tmp_path / 'inbox')!r}); "
        f"receiver.LOCK = Path({str(tmp_path / 'lock')!r}); "
        "receiver.PATIENCE = 2; receiver.LOCK_SECONDS = 1; sys.exit(receiver.main(sys.argv[1:]))"
    )
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", setting, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def said(program: Program, sent: bytes) -> tuple[list[dict[str, Any]], int]:
    """Return all answers to what is sent at once, and the exit status."""
    process = program()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(sent)  # type: ignore[union-attr]  # it is a pipe
    output = process.communicate(timeout=20)[0]
    return [json.loads(line) for line in output.splitlines()], process.returncode


@pytest.mark.parametrize(
    "sent",
    [b"\xff\xfe\n", b"check \0 0001\n", b"x" * 10_000_000, b"x" * 300 + b"\n", b"\n"],
    ids=["no text", "NUL", "a very long line", "a long line", "an empty line"],
)
def test_whatever_is_sent_is_answered_in_one_line_of_json(program: Program, sent: bytes) -> None:
    answers, status = said(program, sent)
    assert [answer["ok"] for answer in answers] == [False]
    assert answers[0]["why"].startswith("no such ")
    assert status == 1


@pytest.mark.parametrize(
    ("days", "why"),
    [
        pytest.param(0, "", id="right"),
        pytest.param(-40, "0001: the certificate has expired", id="behind"),
        pytest.param(40, "0001: not valid yet", id="ahead"),
    ],
)
def test_root_says_how_far_the_issuers_clock_is_off(
    program: Program, generation: Path, tmp_path: Path, days: int, why: str
) -> None:
    there = tmp_path / "home/archive" / NAME / "0001"
    there.parent.mkdir(parents=True)
    shutil.copytree(generation, there)
    process = program("clock-off", str(days * 86400.0)) if days else program()
    output = process.communicate(f"check {NAME} 0001\n".encode(), timeout=20)[0]
    answer = json.loads(output)
    assert answer["ok"] is False
    if days:
        assert answer["why"].startswith(why)
    else:
        assert "certificate" not in answer["why"], "there is no web server here"


def test_who_holds_the_lock_does_not_block_the_receiver_for_ever(
    program: Program, tmp_path: Path
) -> None:
    lock = tmp_path / "lock"
    lock.touch(mode=0o644)
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        answers, status = said(program, b"current example.com 0000\n")
    assert status == 1
    assert answers == [{"ok": False, "code": "host", "why": f"{lock} was held by others for 1 s"}]
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600, "from now on only root can hold it"
    assert said(program, b"current example.com 0000\n")[1] == 0


def test_who_asks_nothing_gets_no_answer(program: Program) -> None:
    assert said(program, b"") == ([], 0)


def test_no_more_lines_are_answered_than_a_rollout_could_need(program: Program) -> None:
    answers, status = said(program, b"current example.com 0000\n" * 1000)
    assert len(answers) == receiver.MOST_LINES
    assert status == 0


def test_nonsense_between_good_lines_is_refused_and_the_others_are_answered(
    program: Program,
) -> None:
    good = b"current example.com 0000\n"
    answers, status = said(program, good + b"\0\0 x\n" + good + b"boot\n" + good)
    assert [answer["ok"] for answer in answers] == [True, False, True, False, True]
    assert status == 1


def test_each_line_is_answered_as_it_comes_and_the_lock_is_free_in_between(
    program: Program,
) -> None:
    process = program()
    assert process.stdin is not None
    assert process.stdout is not None
    for _ in range(3):
        process.stdin.write(b"current example.com 0000\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["ok"]
        assert json.loads(program("boot").communicate(timeout=20)[0])["ok"]
        # All together more than the patience of this one, which is that of a single line.
        time.sleep(0.8)
    assert process.communicate(timeout=20) == (b"", b"")
    assert process.returncode == 0


def test_what_follows_in_a_line_that_is_too_long_is_not_read_as_another(program: Program) -> None:
    filler = b"x" * receiver.LONGEST_LINE
    for length in (300, 400, 600):
        line = filler[:length] + b"current example.com 0001\n"
        answers, _ = said(program, line + b"current example.com 0001\n")
        assert [answer["ok"] for answer in answers] == [False]


def test_who_sends_nothing_keeps_nobody_out_and_is_sent_away(program: Program) -> None:
    idle = program()
    assert json.loads(program("boot").communicate(timeout=20)[0])["ok"]
    assert idle.wait(timeout=20) == -signal.SIGALRM


def test_who_falls_silent_in_the_middle_of_a_conversation_is_sent_away(program: Program) -> None:
    process = program()
    assert process.stdin is not None
    process.stdin.write(b"current example.com 0000\ncurrent exam")
    process.stdin.flush()
    assert process.wait(timeout=20) == -signal.SIGALRM


def test_what_nobody_foresaw_is_an_answer_too(inbox: Path) -> None:
    seal(inbox, names=[1, "a"])
    answer = receiver.run_verb(receiver.answer, f"check {NAME} 0001")
    assert answer["ok"] is False
    assert answer["why"].startswith("unexpected error: TypeError(")


def test_a_refusal_is_one_printable_line() -> None:
    def refuse() -> dict[str, Any]:
        raise Refused("a\nb\x1b[31m\0" + "x" * 1000)

    why = receiver.run_verb(refuse)["why"]
    assert why.startswith(r"a\nb\x1b[31m\x00x")
    assert len(why) < 700


# Session ticket keys


def three(letter: bytes) -> dict[str, bytes]:
    """Return a set of keys."""
    return {name: (letter + name.encode()[:1]) * 40 for name in receiver.TICKET_KEYS}


@pytest.fixture
def tickets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the inbox of a host where nginx takes all keys; it has some of its own."""
    monkeypatch.setattr(receiver, "TICKETS", tmp_path / "tickets")
    monkeypatch.setattr(receiver, "TICKETS_INBOX", tmp_path / "tickets-inbox")
    monkeypatch.setattr(receiver, "rights_of", contextlib.nullcontext)
    monkeypatch.setattr(receiver.SERVER, "reload", lambda: None)
    assert receiver.own_tickets()
    receiver.TICKETS_INBOX.mkdir()
    return receiver.TICKETS_INBOX


def lay(inbox: Path, keys: dict[str, bytes]) -> None:
    for name, content in keys.items():
        (inbox / name).write_bytes(content)


def test_keys_that_are_received_are_used_and_nothing_else_is_left(tickets: Path) -> None:
    lay(tickets, three(b"a"))
    assert receiver.answer("tickets") == {}
    assert receiver.ticket_keys() == three(b"a")
    lay(tickets, three(b"b"))
    receiver.answer("tickets")
    assert receiver.ticket_keys() == three(b"b")
    assert names(tickets) == []
    (one,) = receiver.TICKETS.glob("set.*")
    assert (receiver.TICKETS / "live").readlink() == Path(one.name)
    assert receiver.TICKETS.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in one.iterdir()} == {0o600}


def test_nginx_is_reloaded_for_the_same_keys_too(
    tickets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver that was killed before it has left the right keys unread."""
    reloads: list[int] = []
    monkeypatch.setattr(receiver.SERVER, "reload", lambda: reloads.append(1))
    for _ in range(2):
        lay(tickets, three(b"a"))
        receiver.answer("tickets")
    assert len(reloads) == 2


@pytest.mark.parametrize("missing", receiver.TICKET_KEYS)
def test_a_set_that_is_not_whole_is_refused_and_goes(tickets: Path, missing: str) -> None:
    before = receiver.ticket_keys()
    lay(tickets, three(b"a"))
    (tickets / missing).unlink()
    with pytest.raises(Refused, match=r"^no complete set of session ticket keys has been received"):
        receiver.answer("tickets")
    assert receiver.ticket_keys() == before
    assert names(tickets) == []


@pytest.mark.parametrize("size", [0, 48, 79, 81, 160, 60000])
def test_a_key_of_another_size_is_refused(tickets: Path, size: int) -> None:
    before = receiver.ticket_keys()
    lay(tickets, {**three(b"a"), "next.key": b"x" * size})
    with pytest.raises(Refused, match=rf"^next\.key has {size} bytes, a key has 80$"):
        receiver.answer("tickets")
    assert receiver.ticket_keys() == before
    assert names(tickets) == []


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"previous.key": bytes(80)}, "previous.key is one byte repeated, and no random key"),
        (dict.fromkeys(receiver.TICKET_KEYS, bytes(range(80))), "the three keys are the same"),
    ],
    ids=["all zero", "all the same"],
)
def test_keys_that_nobody_has_made_at_random_are_refused(
    tickets: Path, keys: dict[str, bytes], why: str
) -> None:
    before = receiver.ticket_keys()
    lay(tickets, {**three(b"a"), **keys})
    with pytest.raises(Refused, match=f"^{why}"):
        receiver.answer("tickets")
    assert receiver.ticket_keys() == before
    assert names(tickets) == []


@pytest.mark.parametrize("kind", ["symlink", "hard link", "fifo", "folder", "large"])
def test_a_key_that_is_no_plain_file_is_refused_at_once(tickets: Path, kind: str) -> None:
    before = receiver.ticket_keys()
    lay(tickets, three(b"a"))
    path, secret = tickets / "next.key", tickets.parent / "secret"
    path.unlink()
    secret.write_bytes(b"s" * 80)
    makers: dict[str, Callable[[], object]] = {
        "symlink": lambda: path.symlink_to(secret),
        "hard link": lambda: path.hardlink_to(secret),
        "fifo": lambda: os.mkfifo(path),
        "folder": lambda: (path / "in" / "folder").mkdir(parents=True),
        "large": lambda: path.write_bytes(b"x" * (receiver.LARGEST + 1)),
    }
    makers[kind]()
    with pytest.raises(Refused, match=r"^inbox: next\.key"):
        receiver.answer("tickets")
    assert receiver.ticket_keys() == before
    assert names(tickets) == []
    assert secret.read_bytes() == b"s" * 80


def test_an_inbox_that_is_a_link_or_is_not_there_is_refused(tickets: Path, tmp_path: Path) -> None:
    tickets.rmdir()
    with pytest.raises(Refused, match=r"^this host has no inbox for session ticket keys: "):
        receiver.answer("tickets")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    lay(elsewhere, three(b"a"))
    tickets.symlink_to(elsewhere)
    before = receiver.ticket_keys()
    with pytest.raises(NotADirectoryError):
        receiver.answer("tickets")
    assert receiver.ticket_keys() == before


@pytest.mark.parametrize("error", [Refused("nginx says no"), FileNotFoundError(2, "no", "nginx")])
def test_the_keys_go_back_whatever_stops_the_reload(
    tickets: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    before = receiver.ticket_keys()

    def fail() -> None:
        raise error

    monkeypatch.setattr(receiver.SERVER, "reload", fail)
    lay(tickets, three(b"a"))
    with pytest.raises(type(error)):
        receiver.answer("tickets")
    assert receiver.ticket_keys() == before
    assert len(list(receiver.TICKETS.glob("set.*"))) == 1


@pytest.mark.usefixtures("tickets")
def test_keys_of_its_own_are_made_only_where_nginx_would_find_none() -> None:
    before = receiver.ticket_keys()
    assert len(set(before.values())) == 3
    assert not receiver.own_tickets()
    assert receiver.ticket_keys() == before


LEFT: dict[str, Callable[[Path], object]] = {
    "nothing": shutil.rmtree,
    "no link": lambda folder: (folder / "live").unlink(),
    "no set": lambda _: receiver.point_tickets("set.gone"),
    "a short key": lambda folder: (folder / "live" / "next.key").write_bytes(b"x"),
}


@pytest.mark.usefixtures("tickets")
@pytest.mark.parametrize("left", LEFT)
def test_keys_of_its_own_are_made_instead_of_what_is_left(left: str) -> None:
    before = receiver.ticket_keys()
    LEFT[left](receiver.TICKETS)
    made_anew(before)


@pytest.mark.usefixtures("tickets")
def test_keys_of_its_own_are_made_whatever_else_is_in_their_place() -> None:
    before = receiver.ticket_keys()
    shutil.rmtree(receiver.TICKETS)
    receiver.TICKETS.write_text("no folder")
    made_anew(before)
    (receiver.TICKETS / "live").unlink()
    (receiver.TICKETS / "live/in").mkdir(parents=True)
    made_anew(before)
    shutil.rmtree(receiver.TICKETS)
    receiver.TICKETS.symlink_to("nowhere")
    made_anew(before)


def made_anew(before: dict[str, bytes]) -> None:
    assert receiver.own_tickets()
    found = receiver.ticket_keys()
    assert [len(key) for key in found.values()] == [80] * 3
    assert not set(before.values()) & set(found.values())


@pytest.mark.usefixtures("tickets")
def test_at_boot_keys_are_made_though_the_lock_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(receiver.TICKETS)
    monkeypatch.setattr(receiver, "LOCK", tmp_path / "no" / "such" / "folder")
    umask = os.umask(0)
    os.umask(umask)
    try:
        assert receiver.main(["own-tickets"]) == 0
    finally:
        os.umask(umask)
    assert len(receiver.ticket_keys()) == 3


def test_no_answer_and_no_log_shows_a_key(tickets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(syslog, "syslog", lambda _level, text: logged.append(text))
    lay(tickets, three(b"a"))
    assert receiver.run_verb(receiver.answer, "tickets") == {"ok": True}
    lay(tickets, {**three(b"a"), "next.key": b"secret"})
    assert receiver.run_verb(receiver.answer, "tickets") == {
        "ok": False, "code": "host", "why": "next.key has 6 bytes, a key has 80"
    }  # fmt: skip
    assert logged == ["'tickets': done", "'tickets': next.key has 6 bytes, a key has 80"]


def test_the_receivers_nginx_is_a_server_as_the_port_says() -> None:
    server: Server = receiver.SERVER
    assert callable(server.test)
    assert callable(server.reload)
