"""Root's program on every backend: what it takes, and what it refuses. With real openssl files."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certsync import receiver
from certsync.receiver import Refused

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


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def verify(folder: Path, number: str = "0001", now: float | None = None) -> None:
    receiver.verify(folder, NAME, number, time.time() if now is None else now)


def test_a_good_generation_is_accepted(generation: Path) -> None:
    verify(generation)


def test_a_truncated_file_is_refused(generation: Path) -> None:
    with (generation / "privkey.pem").open("r+b") as file:
        file.truncate(20)
    with pytest.raises(Refused, match=r"privkey\.pem is not what the manifest says"):
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
    with pytest.raises(Refused, match=r"fullchain.pem is not cert.pem and chain.pem"):
        verify(generation)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"number": "0002"}, f"the manifest is not that of {NAME} 0001"),
        ({"lineage": "other"}, f"the manifest is not that of {NAME} 0001"),
        ({"schema": 2}, "the manifest has schema 2, this receiver reads 1"),
        ({"files": []}, "no readable manifest"),
    ],
)
def test_a_manifest_that_is_not_this_generations_is_refused(
    generation: Path, changes: dict[str, Any], words: str
) -> None:
    seal(generation, **changes)
    with pytest.raises(Refused, match=words):
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
        ("activate example.com 0000", "generation 0000 is only ever where a backend starts from"),
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
