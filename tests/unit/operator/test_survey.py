"""One command tells what a host is like; what it says is another machine's word."""

from __future__ import annotations

import base64
import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from certsync.operator.hosts import survey
from certsync.operator.hosts.facts import HostFacts
from certsync.operator.hosts.survey import Entry, Survey, Unit, parse
from tests.unit.steps import program


def archived(*members: tuple[tarfile.TarInfo, bytes]) -> str:
    """Return the line that an archive of these is told in."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as made:
        for member, content in members:
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return f"archive {base64.b64encode(target.getvalue()).decode()}"


def member(name: str, kind: bytes = tarfile.REGTYPE, **values: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.uname, info.gname = kind, 0o644, "root", "root"
    for key, value in values.items():
        setattr(info, key, value)
    return info


def test_what_the_script_prints_is_read() -> None:
    seen = parse(
        [
            "package nginx install ok installed", "package rsync deinstall ok config-files",
            "package cron install ok unpacked",
            "user certsync:x:999:999::/var/lib/certsync-receive:/bin/sh",
            "unit nginx.service active:enabled:no:1024",
            "unit certsync-renew.timer inactive::yes:",
            "rule allow 'Nginx Full'", "address host0 203.0.113.12/24",
            "version nginx 1.26.3", "version openssl 3.5.4", "bucket /etc/nginx/nginx.conf",
            "memory 2048", "files 1024", "state 1 tls 1 backend-01", "libc 2.41", "works",
            "tickets", "there l 777 root root 30 /etc/certsync/live/a.example",
            archived(
                (member("/etc/haproxy/haproxy.cfg"), b"global\n"),
                (member("/opt/certsync", tarfile.DIRTYPE, mode=0o755), b""),
                (member("/opt/certsync/current", tarfile.SYMTYPE, linkname="1.0"), b""),
            ),
        ]
    )  # fmt: skip
    assert seen.packages == {"nginx"}
    assert seen.users == {"certsync": ("/var/lib/certsync-receive", "/bin/sh")}
    assert seen.unit("nginx") == Unit("active", "enabled", is_outdated=False, files="1024")
    assert seen.unit("certsync-renew.timer").is_outdated
    assert not seen.unit("haproxy").runs
    assert seen.rules == ("allow 'Nginx Full'",)
    assert seen.addresses == (("host0", "203.0.113.12"),)
    assert seen.versions == {"nginx": (1, 26, 3), "openssl": (3, 5, 4)}
    assert (seen.memory_kib, seen.open_files, seen.libc) == ("2048", "1024", "2.41")
    assert all((seen.has_own_bucket, seen.certsync_works, seen.has_ticket_keys))
    assert seen.server_states == ("1 tls 1 backend-01",)
    assert seen.text("/etc/haproxy/haproxy.cfg") == "global\n"
    assert seen.entries["/opt/certsync"].mode == "755"
    assert seen.entries["/opt/certsync/current"].target == "1.0"
    assert seen.names_in("/etc/certsync/live") == ["a.example"]
    assert seen.names_in("/etc/certsync") == []


@pytest.mark.parametrize(
    "lines",
    [
        ["package", "user a:b", "unit", "unit x a:b", "there", "there f x y", "version", "state"],
        ["there f 644 root root many /etc/x", "address", "address a b c", "archive"],
        ["there f 644 root root " + "9" * 400 + " /etc/x"],
        ["archive " + "A" * 4000],
        ["archive not base64 at all!"],
        ["archive " + base64.b64encode(b"\xff" * 5120).decode()],
    ],
)
def test_nonsense_says_nothing_and_ends_nothing(lines: list[str]) -> None:
    seen = parse(lines)
    assert not any(seen.text(path) for path in seen.entries)
    assert (seen.packages, seen.users, seen.units, seen.versions) == (frozenset(), {}, {}, {})


def test_an_archive_that_is_interrupted_counts_up_to_there() -> None:
    whole = archived((member("/a"), b"a"), (member("/b"), b"b" * 2000))
    seen = parse([whole[: 8 + 4 * 512]])
    assert seen.text("/a") == "a"
    assert not seen.text("/b")


def test_a_file_that_is_far_too_long_is_none_of_ours() -> None:
    seen = parse([archived((member("/a"), b"a" * (survey.LARGEST + 1)))])
    assert seen.entries["/a"].text is None
    assert seen.text("/a") == ""


def test_what_is_no_file_of_an_archive_has_no_text() -> None:
    fifo = (member("/f", tarfile.FIFOTYPE), b"")
    hard = (member("/h", tarfile.LNKTYPE, linkname="/etc/shadow"), b"")
    seen = parse([archived(fifo, hard)])
    assert seen.entries["/f"] == Entry("?", "644", "root", "root")
    assert seen.text("/h") == ""


AND_MORE = "\nTLS SNI support enabled\nconfigure arguments: --with-cc-opt='-g -O2'\n"


@pytest.mark.parametrize(
    ("version", "built", "nginx", "openssl"),
    [
        ("1.22.1", "OpenSSL 3.0.11 19 Sep 2023 (running with OpenSSL 3.0.17 1 Jul 2025)",
         (1, 22, 1), (3, 0, 17)),
        ("1.26.3", "OpenSSL 3.4.1 11 Feb 2025 (running with OpenSSL 3.5.4 30 Sep 2025)",
         (1, 26, 3), (3, 5, 4)),
        ("1.30.0 (Ubuntu)", "OpenSSL 3.6.0 1 Oct 2025", (1, 30, 0), (3, 6, 0)),
        ("1.28.0", "BoringSSL", (1, 28, 0), None),
    ],
)  # fmt: skip
def test_the_openssl_that_nginx_runs_with_counts_and_not_the_one_it_was_built_with(
    version: str, built: str, nginx: tuple[int, ...], openssl: tuple[int, ...] | None,
    tmp_path: Path,
) -> None:  # fmt: skip
    printed = f"nginx version: nginx/{version}\nbuilt with {built}{AND_MORE}"
    program(tmp_path, "nginx", f"cat >&2 <<'EOF'\n{printed}EOF")
    seen = on_this_machine(tmp_path)
    assert (seen.versions["nginx"], seen.versions.get("openssl")) == (nginx, openssl)


@pytest.mark.parametrize(("chain", "state"), [("exit 0", "active"), ("exit 1", "inactive")])
def test_ufw_says_its_rules_and_what_it_limits(tmp_path: Path, chain: str, state: str) -> None:
    rules = ["allow 80/tcp", "limit OpenSSH", "limit from 192.0.2.0/24 to any port 2222 proto tcp"]
    shown = "\n".join(["Added user rules (see 'ufw status'):", *(f"ufw {rule}" for rule in rules)])
    program(tmp_path, "ufw", f"cat <<'EOF'\n{shown}\nEOF")
    program(tmp_path, "iptables", chain)
    seen = on_this_machine(tmp_path)
    assert seen.rules == tuple(rules)
    assert seen.facts.ufw == state
    assert seen.facts.limited == ("OpenSSH", "2222")


def test_ufw_says_its_rules_in_english_on_a_host_that_speaks_french(tmp_path: Path) -> None:
    french = "printf '%s\\n' 'Règles ajoutées :' 'ufw autoriser 80/tcp'"
    english = "printf '%s\\n' 'Added user rules:' 'ufw limit 22/tcp'"
    program(tmp_path, "ufw", f'if [ "${{LC_ALL-}}" = C ]; then {english}; else {french}; fi')
    program(tmp_path, "iptables", "exit 0")
    seen = on_this_machine(tmp_path, LC_ALL="fr_FR.UTF-8", LANG="fr_FR.UTF-8")
    assert seen.rules == ("limit 22/tcp",)
    assert (seen.facts.ufw, seen.facts.limited) == ("active", ("22/tcp",))


SHADOW = {
    "root:*:0:0:99999:7:::": "root",
    "root:!:20000:0:99999:7:::": "",
    "root:!::0:99999:7:::": "",
    "root:!:10000:0:90:7:::": "root",
    "admin:!:20000:0:99999:7::10000:": "admin",
    "admin:!:20000::::::": "",
}


@pytest.mark.parametrize(("line", "user"), SHADOW.items())
def test_an_expired_password_or_account_is_named(tmp_path: Path, line: str, user: str) -> None:
    program(tmp_path, "getent", f"[ $1 = shadow ] && echo '{line}'")
    seen = on_this_machine(tmp_path)
    assert seen.facts.expired == ((user,) if user else ())


@pytest.mark.parametrize(
    ("ignored", "history"),
    [
        pytest.param(None, "git", id="all of it"),
        pytest.param("*.bak\n", "git", id="others are left out"),
        pytest.param("certsync/\n", "", id="left out"),
        pytest.param("*.bak\n/certsync\n", "", id="left out, too"),
    ],
)
def test_a_repository_of_etc_that_has_our_keys_is_named(
    tmp_path: Path, ignored: str | None, history: str
) -> None:
    (tmp_path / ".git").mkdir()
    if ignored is not None:
        (tmp_path / ".gitignore").write_text(ignored)
    script = survey.script().replace("/etc/.", f"{tmp_path}/.")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert parse(done.stdout.splitlines()).facts.history == history


def on_this_machine(folder: Path, **environment: str) -> Survey:
    path = {"PATH": f"{folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin", **environment}
    done = subprocess.run(["sh", "-c", survey.script()], capture_output=True, text=True, env=path)
    assert done.returncode == 0
    return parse(done.stdout.splitlines())


def test_this_machine_can_be_asked_too(tmp_path: Path) -> None:
    seen = on_this_machine(tmp_path)
    assert seen.facts.os != HostFacts().os
    assert seen.facts.python >= (3, 8)
    assert seen.memory_kib.isdigit()
    assert ("lo", "127.0.0.1") in seen.addresses
    assert "." in seen.libc


def test_no_content_of_a_key_leaves_a_host() -> None:
    """Of what is archived, nothing is a key, nor what people have put beside their keys."""
    listing = survey.script().partition("tar -c")[2]
    assert "/etc/haproxy/haproxy.cfg" in listing
    for secret in ("id_ed25519 ", "privkey", ".key", "eab-hmac", "notify-urls", "ssh_host_*_key "):
        assert secret not in listing
    assert "/etc/certsync/* " not in listing
