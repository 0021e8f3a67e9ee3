"""A replica attacked through the issuer's own push key: refused, logged, and nothing live changed.

Who holds that key may be anybody by now, and so may the receiving user, whatever it is let do.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from certsync.programs import receiver
from lab import Lab, Machine
from tests.e2e.conftest import BringUp
from tests.e2e.road import LINEAGE, LIVE, NAME, Road
from tests.unit.programs.test_receiver import seal

PUSH = "/var/lib/certsync-push"
AS_PUSHING = "setpriv --reuid certsync-push --regid certsync-push --clear-groups"
AS_RECEIVING = "setpriv --reuid certsync --regid certsync --init-groups"
INBOX = "/var/lib/certsync-receive/inbox"
TICKETS_INBOX = "/run/certsync-receive/tickets"
FORGED = "/var/forged"
PROGRAM = "/usr/local/lib/certsync/receiver"
NOT_TRIED = (124, 127)
"""Exit statuses of timeout(1) and of a shell that say a command took too long, or is not there."""

ONLY_PUSH = "certsync: this key may only push certificates"

STATE = f"""
readlink {LIVE}
find /etc/certsync /usr/local /var/lib/certsync-receive /etc/sudoers.d /etc/cron.d /root /tmp \
  -xdev ! -path '{INBOX}/*' ! -type d -printf '%p %y %m %U %T@ %l\\n' -exec sha256sum {{}} + | sort
find /etc/certsync /tmp /var/lib/certsync-receive -xdev ! -path '{INBOX}/*' -type d -printf '%p\\n'
sha256sum /run/certsync-tickets/live/*.key
ls -A {TICKETS_INBOX}
sha256sum /etc/passwd /etc/shadow /etc/ssh/sshd_config
systemctl show -p MainPID nginx
openssl s_client -connect 127.0.0.1:443 -servername {NAME} < /dev/null 2> /dev/null \
  | openssl x509 -noout -fingerprint -sha256
"""
"""All that an attack must not change on the replica, what it serves among it."""


class Siege:
    """The replica, and what somebody who has taken the issuer tries on it."""

    def __init__(self, road: Road) -> None:
        self.issuer, self.replica = road.issuer, road.replicas[0]
        self.balancer = road.lab.balancer
        self.before = self.state()

    def ssh(self, *options: str, alone: bool = False) -> str:
        """Return the attacker's SSH command; ``alone`` opens a connection of its own."""
        shared = "none" if alone else "/run/certsync-push/ssh/hostile"
        words = [
            "ssh", "-F", "none", "-i", f"{PUSH}/id_ed25519", "-o", "IdentitiesOnly=yes",
            "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "StrictHostKeyChecking=yes",
            "-o", f"UserKnownHostsFile={PUSH}/known_hosts", "-o", "ConnectTimeout=5",
            "-o", "KexAlgorithms=curve25519-sha256", "-o", "ControlMaster=auto",
            "-o", f"ControlPath={shared}", "-o", "ControlPersist=60", "-l", "certsync", *options,
        ]  # fmt: skip
        return shlex.join(words)

    def attack(self, command: str) -> tuple[int, str]:
        """Run a shell command as the pushing user, 30 seconds at most."""
        return self.issuer.attempt(f"{AS_PUSHING} timeout 30 sh -c {shlex.quote(command)}")

    def command(self, command: str, *options: str) -> tuple[int, str]:
        """Ask the replica's SSH server to run a command."""
        asked = f" {shlex.quote(command)}" if command else ""
        return self.attack(f"{self.ssh(*options)} {self.replica.address}{asked}")

    def rsync(self, options: str, source: str, target: str) -> tuple[int, str]:
        """Run rsync with options; `@` in source or target becomes the replica's address."""
        places = [place.replace("@", self.replica.address) for place in (source, target) if place]
        return self.attack(f"cd {FORGED} && rsync -e '{self.ssh()}' {options} {' '.join(places)}")

    def forge(self, files: dict[str, bytes]) -> None:
        """Lay files ready on the issuer."""
        folder = self.issuer.root / FORGED.lstrip("/")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o755)
        for name, content in files.items():
            (folder / name).write_bytes(content)

    def push(self) -> tuple[int, str]:
        """Send the forged files as certsync does."""
        return self.rsync("--ignore-times --no-s", " ".join(receiver.FILES), "@::inbox/")

    def ask(self, line: str) -> dict[str, Any]:
        """Return the receiver's answer to a line."""
        sent = f"printf '%s\\n' {shlex.quote(line)}"
        _, output = self.attack(f"{sent} | {self.ssh(self.replica.address)} certsync-receiver")
        answer: dict[str, Any] = json.loads(output)
        return answer

    def converse(self, sent: str) -> list[dict[str, Any]]:
        """Return the receiver's answers to what printf(1) makes of a text, sent at once."""
        self.forge({"format": sent.encode()})
        ask = f"{self.ssh(self.replica.address)} certsync-receiver"
        _, output = self.attack(f'printf "$(cat {FORGED}/format)" | {ask}')
        return [json.loads(line) for line in output.splitlines()]

    def attack_argv(self, command: str) -> list[str]:
        """Return the command that runs a shell command as the pushing user, in its own time."""
        return [*self.issuer.ssh_argv(), f"sudo {AS_PUSHING} sh -c {shlex.quote(command)}"]

    def on_replica(self, command: str) -> tuple[int, str]:
        """Run a shell command as the receiving user, in its inbox."""
        script = shlex.quote(f"cd {INBOX} && {command}")
        return self.replica.attempt(f"{AS_RECEIVING} timeout 30 sh -c {script}")

    def state(self) -> str:
        """Return all that must not change, and leave inbox and journal to the next attack."""
        self.log()
        return self.replica.sh(f"find {INBOX} -mindepth 1 -delete; {STATE}")

    def log(self) -> str:
        """Return what the replica's journal has got since this was last asked."""
        cursor = "/run/hostile.cursor"
        return self.replica.sh(
            f"journalctl --sync; journalctl -q --no-pager -a -o cat --cursor-file={cursor}"
        )


@pytest.fixture(scope="module")
def siege(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    """Return a fleet in service, whose issuer is an attacker's from now on."""
    with bring_up(Lab("hostile", backends=2), prepared=True) as lab:
        road = Road(lab, tmp_path_factory.mktemp("hostile"))
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        yield Siege(road)


@pytest.fixture(autouse=True)
def nothing_changes(siege: Siege) -> Iterator[None]:
    """Fail a test after which anything is other than before, or another certificate is served."""
    yield
    assert siege.state() == siege.before


# Command lines


COMMANDS = {
    "a command": "id",
    "a shell": "sh -c id",
    "no command": "",
    "a second command": "certsync-receiver; id",
    "a substitution": "certsync-receiver $(id)",
    "an argument": "certsync-receiver boot",
    "a new line": "certsync-receiver\nid",
    "a blank before": " certsync-receiver",
    "a blank after": "certsync-receiver ",
    "a pattern": "certsync-receive*",
    "the program itself": PROGRAM,
    "sudo": f"sudo -n {PROGRAM}",
    "rsync that writes anywhere": "rsync --server -logDtpre.iLsfxC . /etc/",
    "rsync that reads anywhere": "rsync --server --sender -logDtpre.iLsfxC . /etc/",
    "rsync with another configuration": "rsync --server --daemon --config=/tmp/x .",
    "rsync with another configuration behind": "rsync --server --daemon . --config=/tmp/x",
    "rsync and a second command": "rsync --server --daemon .; id",
    "rsync and a new line": "rsync --server --daemon .\nid",
    "scp": "scp -t /tmp",
    "sftp": "/usr/lib/openssh/sftp-server",
    "a variable": "$SSH_CONNECTION",
    "very much": "x" * 20000,
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_command_line_that_is_not_ours_is_refused(siege: Siege, command: str) -> None:
    assert siege.command(command) == (64, f"{ONLY_PUSH}\n")
    assert f"refused: {command[:200]}".replace("\n", "?").strip() in siege.log()


def test_what_a_command_line_writes_into_the_log_cannot_drive_a_terminal(siege: Siege) -> None:
    assert siege.command("\x1b]0;owned\x07\x1b[2J \xff")[0] == 64
    log = siege.log()
    assert "refused: ?]0;owned??[2J ??" in log
    assert "\x1b" not in log


@pytest.mark.parametrize(
    ("options", "status", "told", "logged"),
    [
        ("-tt", 255, "", ""),
        ("-s", 64, "", "refused: /usr/lib/openssh/sftp-server"),
        ("-A", 64, ONLY_PUSH, "refused: sftp"),
        ("-X -o ForwardX11Trusted=yes", 64, ONLY_PUSH, "refused: sftp"),
        ("-o SetEnv='LC_ALL=/tmp/x PATH=/tmp BASH_ENV=/tmp/x'", 64, ONLY_PUSH, "refused: sftp"),
    ],
    ids=["terminal", "subsystem", "agent", "X11", "environment"],
)
def test_a_session_has_nothing_but_its_two_pipes(
    siege: Siege, options: str, status: int, told: str, logged: str
) -> None:
    ask = f"{siege.ssh(alone=True)} {options} {siege.replica.address} sftp"
    ended = siege.attack(f"DISPLAY=:0 ssh-agent {ask}")
    assert ended[0] == status
    assert told in ended[1]
    assert logged in siege.log()


@pytest.mark.parametrize(
    "options",
    [
        "-R 18080:127.0.0.1:80",
        "-R /tmp/socket:127.0.0.1:80",
        "-W 127.0.0.1:80",
        "-W 203.0.113.3:14000",
    ],
)
def test_a_port_is_not_forwarded(siege: Siege, options: str) -> None:
    asked = options.startswith("-W") * "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | "
    ssh = f"{asked}timeout 10 {siege.ssh(alone=True)} -o ExitOnForwardFailure=yes"
    no_session = options.startswith("-R") * "-N "
    status, output = siege.attack(f"{ssh} {no_session}{options} {siege.replica.address}")
    assert status == 255
    assert "HTTP/" not in output
    listening = siege.replica.sh("ss -Hltnx | grep -e :18080 -e /tmp/socket || :")
    assert listening == ""


def test_without_a_forwarding_the_same_connection_stays_open(siege: Siege) -> None:
    status, _ = siege.attack(f"timeout 3 {siege.ssh(alone=True)} -N {siege.replica.address}")
    assert status == 124


@pytest.mark.parametrize(
    ("option", "proxy"), [("-L 18081:127.0.0.1:80", ""), ("-D 18081", "--socks5 127.0.0.1:18081")]
)
def test_a_forwarding_that_the_client_has_opened_leads_nowhere(
    siege: Siege, option: str, proxy: str
) -> None:
    url = "http://127.0.0.1:80/" if proxy else "http://127.0.0.1:18081/"
    _, output = siege.attack(
        f"timeout 8 {siege.ssh(alone=True)} -N {option} {siege.replica.address} & "
        "for try in 1 2 3 4 5 6; do sleep 0.5; ss -Hltn sport = :18081 | grep -q . && break; done;"
        " ss -Hltn sport = :18081 | grep -q . && echo open;"
        f" curl -s -m 4 {proxy} {url} > /dev/null 2>&1; echo curl $?; kill %1"
    )
    assert "open\n" in output
    assert "curl 0" not in output


def test_the_right_key_from_another_address_is_not_let_in(siege: Siege) -> None:
    options = (
        "-o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no "
        "-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "
        f"-l certsync {siege.replica.address} certsync-receiver < /dev/null"
    )
    assert siege.attack(f"ssh -F none -i {PUSH}/id_ed25519 {options}") == (0, "")
    key = siege.issuer.sh(f"cat {PUSH}/id_ed25519")
    siege.balancer.sh("umask 077; cat > /run/stolen", input=key)
    try:
        status, _ = siege.balancer.attempt(f"ssh -F none -i /run/stolen {options}")
    finally:
        siege.balancer.sh("rm /run/stolen")
    assert status == 255
    # It does get as far as the SSH server.
    siege.balancer.sh(f"timeout 5 bash -c '< /dev/tcp/{siege.replica.address}/22'")


# rsync


@pytest.mark.parametrize(
    "options",
    [
        "-a", "-r", "-d", "-l", "-R", "-p", "-t", "-o", "-g", "-D", "-H", "-X", "-K", "-u", "-z",
        "-c", "-v", "-b", "-r --delete", "-d --delete-after", "-d --force --delete",
        "--copy-dest=/etc", "--link-dest=/etc", "--compare-dest=/etc", "-b --backup-dir=/tmp/b",
        "-M--log-file=/tmp/l", "--remove-source-files", "--partial", "--partial-dir=/tmp",
        "--temp-dir=/tmp", "--inplace", "--append", "--write-devices", "--delay-updates",
        "--preallocate", "--timeout=9999", "--iconv=utf8,latin1", "-M--fake-super",
        "-M--daemon", "-M--config=/tmp/x", "-M--password-file=/etc/shadow", "-M--copy-as=root",
        "-s -r", "-s -M--log-file=/tmp/l", "-s --temp-dir=/tmp",
    ],
)  # fmt: skip
def test_an_rsync_option_that_a_push_does_not_need_is_refused(siege: Siege, options: str) -> None:
    siege.forge({"cert.pem": b"x"})
    status, _ = siege.rsync(options, "cert.pem", "@::inbox/")
    # rsync(1): an action that is not supported, or the other side has ended.
    assert status in (4, 12)
    assert siege.replica.sh(f"ls -A {INBOX}") == ""


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("other", "@::inbox/"),
        ("cert.pem", "@::inbox/other"),
        ("cert.pem", "@::inbox/.ssh/"),
        ("cert.pem", "@::inbox/../.ssh/"),
        ("cert.pem", "@::inbox/../../../../etc/"),
        ("cert.pem", "@::inbox//etc/certsync/"),
        ("cert.pem", "@::inbox/cert.pem/"),
        ("cert.pem", "@::certsync/"),
        ("cert.pem", "@::../inbox/"),
        ("@::inbox/cert.pem", "/tmp/pulled"),
        ("@::inbox/../../../../etc/passwd", "/tmp/pulled"),
        ("-M--sender cert.pem", "@::inbox/"),
        ("cert.pem", "@::tickets/"),
        ("other", "@::tickets/../../certsync-tickets/"),
        ("@::tickets/next.key", "/tmp/pulled"),
        ("@::inbox/", ""),
    ],
)
def test_rsync_reaches_no_other_name_and_reads_nothing(
    siege: Siege, source: str, target: str
) -> None:
    siege.forge({"cert.pem": b"x", "other": b"x"})
    status, output = siege.rsync("", source, target)
    assert status not in (0, *NOT_TRIED)
    assert "root:" not in output
    assert siege.replica.sh(f"find {INBOX} {TICKETS_INBOX} -type f") == ""
    assert siege.issuer.attempt("ls /tmp/pulled")[0] != 0


def test_rsync_is_told_no_name_of_an_inbox(siege: Siege) -> None:
    _, output = siege.rsync("", "@::", "")
    assert output.strip() == ""


TICKETS = {
    "a link to a secret": ("ln -s /etc/shadow next.key", "inbox: next.key: "),
    "a link to the live key": (
        "ln -s /run/certsync-tickets/live/next.key next.key", "inbox: next.key: "
    ),
    "a FIFO": ("mkfifo next.key", "inbox: next.key is not a regular file"),
    "a folder": ("mkdir -p next.key/in", "inbox: next.key is not a regular file"),
    "a short key": ("head -c 79 /dev/zero > next.key", "next.key has 79 bytes, a key has 80"),
    "a long key": ("head -c 81 /dev/zero > next.key", "next.key has 81 bytes, a key has 80"),
    "a huge one": ("head -c 70000 /dev/zero > next.key", "inbox: next.key is larger than"),
    "two of three": ("true", "no complete set of session ticket keys has been received"),
}  # fmt: skip


@pytest.mark.parametrize("attack", TICKETS)
def test_ticket_keys_that_are_none_are_refused_and_nginx_keeps_what_it_has(
    siege: Siege, attack: str
) -> None:
    command, why = TICKETS[attack]
    good = "head -c 80 /dev/urandom | tee current.key > previous.key"
    status, told = siege.on_replica(f"cd {TICKETS_INBOX} && {good} && {command}")
    assert status == 0, told
    answer = siege.ask("tickets")
    assert answer["ok"] is False
    assert answer["why"].startswith(why)
    assert "'tickets': " in siege.log()


@pytest.mark.parametrize("size", [65537, 5_000_000])
def test_a_file_that_is_too_large_does_not_arrive(siege: Siege, size: int) -> None:
    siege.forge({"privkey.pem": bytes(size)})
    status, _ = siege.rsync("", "privkey.pem", "@::inbox/")
    assert status != 0
    assert siege.replica.sh(f"ls -A {INBOX}") == ""


# Generations


def make_pair(folder: Path, *, name: str = NAME, begin: int = -1, end: int = 30) -> None:
    """Write a key and a certificate of its own signature, valid between so many days from now."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(timezone.utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + timedelta(days=begin))
        .not_valid_after(now + timedelta(days=end))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(encoding, form, serialization.NoEncryption())
    (folder / "privkey.pem").write_bytes(secret)
    (folder / "cert.pem").write_bytes(certificate.public_bytes(encoding))


@pytest.fixture
def generation(tmp_path: Path) -> Path:
    """Return a generation 0002 that would be accepted."""
    folder = tmp_path / "generation"
    folder.mkdir()
    make_pair(folder)
    return seal(folder, "0002")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def other_key(folder: Path) -> None:
    certificate = (folder / "cert.pem").read_bytes()
    make_pair(folder)
    (folder / "cert.pem").write_bytes(certificate)
    seal(folder, "0002")


def replaced(name: str, content: bytes, *, sealed: bool = True) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)
        if sealed:
            seal(folder, "0002")

    return change


def pair(**facts: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        make_pair(folder, **facts)
        seal(folder, "0002", names=[facts.get("name", NAME)])

    return change


def manifest(**changes: Any) -> Callable[[Path], object]:
    return lambda folder: seal(folder, **{"number": "0002", **changes})


def shortened(folder: Path) -> None:
    with (folder / "fullchain.pem").open("r+b") as file:
        file.truncate(100)


def foreign_chain(folder: Path) -> None:
    aside = folder.parent / "signer"
    aside.mkdir()
    make_pair(aside)
    chain = (aside / "cert.pem").read_bytes()
    (folder / "chain.pem").write_bytes(chain)
    (folder / "fullchain.pem").write_bytes((folder / "cert.pem").read_bytes() + chain)
    text = json.loads((folder / receiver.MANIFEST).read_text())
    text["files"] = {
        name: receiver.digest((folder / name).read_bytes()) for name in receiver.PEM_FILES
    }
    (folder / receiver.MANIFEST).write_text(json.dumps(text))


OPTIONS = b"-inform DER\n-engine /tmp/evil.so\nengine:evil:key\npkcs11:token=x\n@/etc/shadow\n"
NO_MANIFEST = "no readable manifest"
UNREADABLE = "key and certificate cannot be read"
NOT_ITS_SUM = "does not match the manifest"
GENERATIONS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another key": (other_key, "the private key does not belong to the certificate"),
    "a truncated file": (shortened, f"fullchain.pem {NOT_ITS_SUM}"),
    "a truncated key": (replaced("privkey.pem", b"-----BEGIN PRIVATE KEY-----\nMIGHAgEA"),
                        UNREADABLE),
    "options for a key": (replaced("privkey.pem", OPTIONS), UNREADABLE),
    "options for a certificate": (replaced("cert.pem", OPTIONS), UNREADABLE),
    "nothing for a key": (replaced("privkey.pem", b""), UNREADABLE),
    "zeroes": (replaced("cert.pem", bytes(60000)), UNREADABLE),
    "another name": (pair(name="evil.example.com"), "the certificate is for evil.example.com"),
    "names it does not have": (manifest(names=[NAME, "evil.example.com"]),
                               f"the certificate is for {NAME}"),
    "an expired certificate": (pair(begin=-60, end=-1), "the certificate has expired"),
    "a certificate to come": (pair(begin=2), "not valid yet"),
    "a chain that did not sign it": (foreign_chain, "clients would reject it: "),
    "another number": (manifest(number="0009"), f"the manifest does not belong to {NAME} 0002"),
    "another lineage": (manifest(lineage="evil.example.com"), "the manifest does not belong to"),
    "a path for a lineage": (manifest(lineage="../../live"), "the manifest does not belong to"),
    "a later schema": (manifest(schema=99), "the manifest has schema 99"),
    "a text for a schema": (manifest(schema="1"), NO_MANIFEST),
    "a list of files": (manifest(files=[]), NO_MANIFEST),
    "sums of other files": (manifest(files={"../../shadow": "0" * 64}), NOT_ITS_SUM),
    "names that are none": (manifest(names=[1, None]), "unexpected error: TypeError"),
    "a manifest that is no text": (replaced(receiver.MANIFEST, b"\xff\xfe\0", sealed=False),
                                   NO_MANIFEST),
    "a manifest of brackets": (replaced(receiver.MANIFEST, b"[" * 65000, sealed=False),
                               NO_MANIFEST),
    "a manifest of braces": (replaced(receiver.MANIFEST, b'{"a":' * 13000, sealed=False),
                             NO_MANIFEST),
    "a manifest of digits": (replaced(receiver.MANIFEST, b"9" * 65000, sealed=False),
                             NO_MANIFEST),
}  # fmt: skip


@pytest.mark.parametrize(("change", "why"), GENERATIONS.values(), ids=GENERATIONS)
def test_a_generation_that_is_not_good_is_refused(
    siege: Siege, generation: Path, change: Callable[[Path], object], why: str
) -> None:
    change(generation)
    siege.forge(contents(generation))
    assert siege.push()[0] == 0
    answer = siege.ask(f"check {NAME} 0002")
    assert answer["ok"] is False
    assert why in answer["why"]
    assert siege.ask(f"activate {NAME} 0002")["ok"] is False
    log = siege.log()
    assert f"'check {NAME} 0002': " in log
    assert why in log
    assert siege.push()[0] == 0
    answer = siege.ask(f"try {NAME} 0002")
    assert answer["ok"] is False
    assert why in answer["why"]
    assert why in siege.log()
    assert siege.replica.sh(f"ls -A {INBOX} /etc/certsync/staging") == (
        f"/etc/certsync/staging:\n\n{INBOX}:\n"
    )


@pytest.mark.parametrize(
    ("number", "why"),
    [
        ("0001", "a different generation 0001 is already kept here"),
        ("0000", "is each backend's own"),
    ],
)
def test_a_number_that_is_taken_is_never_written_again(
    siege: Siege, generation: Path, number: str, why: str
) -> None:
    siege.forge(contents(seal(generation, number)))
    assert siege.push()[0] == 0
    answer = siege.ask(f"check {NAME} {number}")
    assert answer["ok"] is False
    assert why in answer["why"]
    assert why in siege.log()


def test_a_lineage_that_is_not_served_here_is_refused(siege: Siege, generation: Path) -> None:
    name = "evil.example.com"
    make_pair(generation, name=name)
    siege.forge(contents(seal(generation, "0001", lineage=name, names=[name])))
    assert siege.push()[0] == 0
    why = siege.ask(f"check {name} 0001")["why"]
    assert why == f"/etc/certsync/live/{name} does not exist: deploy again"
    assert why in siege.log()


# What is said to the receiver


LINES = {
    "no text": r"\377\376\n",
    "NUL": r"check \000 0001\n",
    "an empty line": r"\n",
    "a verb of root": r"boot\n",
    "another verb of root": rf"placeholder {NAME}\n",
    "a path": r"check ../../etc 0001\n",
    "an option": r"check --help 0001\n",
    "a fourth word": rf"activate {NAME} 0001 --force\n",
    "the placeholder, to be deleted": rf"discard {NAME} 0000\n",
    "a path to be deleted": r"discard ../../etc 0001\n",
    "no number to be deleted": rf"discard {NAME}\n",
    "two blanks": rf"activate  {NAME} 0001\n",
    "a tab": rf"activate\t{NAME}\t0001\n",
    "a carriage return": rf"activate {NAME} 0001\r\n",
    "too long a line": "x" * 400 + rf"activate {NAME} 0001\n",
    "a line as long as is read": "x" * 300 + rf"activate {NAME} 0001\n",
    "a very long line": "x" * 70000,
    "half a line": rf"activate {NAME}",
}


@pytest.mark.parametrize("sent", LINES.values(), ids=LINES)
def test_a_line_that_means_nothing_gets_one_refusal(siege: Siege, sent: str) -> None:
    answers = siege.converse(sent)
    assert [answer["ok"] for answer in answers] == [False]
    assert re.match(r"no such |generation 0000 is ", answers[0]["why"])
    log = siege.log()
    assert log.count(f": {answers[0]['why']}") == 1
    assert ": done" not in log


GOOD_LINE = rf"current {NAME} 0001\n"


def test_who_says_nothing_gets_no_answer(siege: Siege) -> None:
    assert siege.converse("") == []


def test_nonsense_between_good_lines_is_refused_and_changes_nothing_for_them(siege: Siege) -> None:
    answers = siege.converse(GOOD_LINE + r"\377 x\n" + GOOD_LINE + r"boot\n" + GOOD_LINE)
    assert [answer["ok"] for answer in answers] == [True, False, True, False, True]
    assert siege.log().count(": no such verb") == 2


@pytest.mark.parametrize("line", [GOOD_LINE, r"x\n"])
def test_nobody_gets_more_answers_than_a_rollout_needs(siege: Siege, line: str) -> None:
    assert len(siege.converse(line * 500)) == receiver.MOST_LINES


def test_a_line_after_a_silence_is_answered_and_holds_up_nobody(siege: Siege) -> None:
    talk = f"printf '{GOOD_LINE}'; sleep 4; printf '{GOOD_LINE}'"
    ask = f"({talk}) | {siege.ssh(siege.replica.address)} certsync-receiver"
    with subprocess.Popen(siege.attack_argv(ask), stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        first = json.loads(holder.stdout.readline())
        told = siege.replica.sh(f"timeout 2 {PROGRAM} boot")
        assert told == '{"ok": true, "fell_back": {}}\n'
        assert siege.ask(f"current {NAME} 0000")["current"] == "0001"
        assert holder.poll() is None
        assert [json.loads(line) for line in holder.stdout] == [first]
        assert holder.wait(timeout=30) == 0


def test_who_says_nothing_holds_up_neither_the_issuer_nor_nginx_at_boot(siege: Siege) -> None:
    idle = f"sleep 5 | {siege.ssh(siege.replica.address)} certsync-receiver"
    holder = subprocess.Popen(
        siege.attack_argv(idle),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        siege.replica.sh(f"for try in $(seq 50); do pgrep -f '^/usr/bin/python3 -IS {PROGRAM}' && "
                         "exit 0; sleep 0.1; done; exit 1")  # fmt: skip
        assert siege.ask(f"current {NAME} 0000")["current"] == "0001"
        assert siege.replica.sh(f"timeout 5 {PROGRAM} boot") == '{"ok": true, "fell_back": {}}\n'
        assert holder.poll() is None
    finally:
        holder.wait(timeout=30)


# The inbox, and the receiving user


INBOXES = {
    "a link to another's file": ("ln -sf /etc/shadow privkey.pem", "symbolic link"),
    "a link to the live key": (f"ln -sf {LIVE}/privkey.pem privkey.pem", "symbolic link"),
    "a link for a manifest": (f"ln -sf {LIVE}/manifest.json manifest.json", "symbolic link"),
    "a second hard link": ("ln cert.pem .other", "cert.pem is not a regular file"),
    "a FIFO": ("rm privkey.pem; mkfifo privkey.pem", "privkey.pem is not a regular file"),
    "a FIFO for a manifest": ("rm manifest.json; mkfifo manifest.json", "is not a regular file"),
    "a folder": ("rm cert.pem; mkdir -p cert.pem/in/it", "cert.pem is not a regular file"),
    "a closed folder": ("rm cert.pem; mkdir cert.pem; chmod 0 cert.pem", "Permission denied"),
    "a socket": (
        "rm cert.pem; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"cert.pem\")'",
        "inbox: cert.pem: ",
    ),
    "a large file": ("head -c 65537 /dev/zero > chain.pem", "is larger than 65536 bytes"),
    "an endless file": ("truncate -s 1G chain.pem", "is larger than 65536 bytes"),
    "a file nobody may read": ("chmod 0 privkey.pem", "inbox: privkey.pem: Permission denied"),
    "a file less": ("rm privkey.pem", "generation 0002 has not been received"),
    "nothing": ("rm *", "generation 0002 has not been received"),
}


NOTHING_THERE = {"check": "generation 0002 has not been received",
                 "try": "nothing has been received to test"}  # fmt: skip


@pytest.mark.parametrize("verb", NOTHING_THERE)
@pytest.mark.parametrize(("change", "why"), INBOXES.values(), ids=INBOXES)
def test_an_inbox_that_holds_something_else_is_refused_and_emptied(
    siege: Siege, generation: Path, change: str, why: str, verb: str
) -> None:
    why = why.replace(NOTHING_THERE["check"], NOTHING_THERE[verb])
    siege.forge(contents(generation))
    assert siege.push()[0] == 0
    assert siege.on_replica(change) == (0, "")
    answer = siege.ask(f"{verb} {NAME} 0002")
    assert answer["ok"] is False
    assert why in answer["why"]
    assert why in siege.log()
    assert siege.replica.sh(f"ls -A {INBOX}") in ("", "cert.pem\n")


SWAP = r"""
import os, pathlib, random, sys, time
good = {name: pathlib.Path(f"../swap/{name}").read_bytes() for name in sys.argv[2:]}
end = time.monotonic() + float(sys.argv[1])
def put(name, content=None, target=None):
    try:
        if target: os.symlink(target, ".new")
        elif content is None: os.mkfifo(".new")
        else: pathlib.Path(".new").write_bytes(content)
        os.replace(".new", name)
    except OSError:
        pass
    time.sleep(random.random() * 0.001)
while time.monotonic() < end:
    for name, content in good.items(): put(name, content)
    put("privkey.pem", content=good["cert.pem"])
    put("cert.pem", content=good["privkey.pem"])
    put("privkey.pem", target="/etc/shadow")
    put("privkey.pem", target="/etc/certsync/live/passthrough.example.com/privkey.pem")
    put("manifest.json")
    put("manifest.json", content=b"{}")
"""


TAKE_OUT = f"""
cd {LINEAGE}/0002 2> /dev/null || exit 0
python3 -c '
import json
for name, digest in json.load(open("manifest.json"))["files"].items(): print(digest, "", name)
' | sha256sum -c 2>&1
rm -r {LINEAGE}/0002
"""
"""Compare generation 0002 with its sums, if it is there, and remove it."""


def test_files_swapped_during_the_check_get_nothing_but_a_whole_generation_in(
    siege: Siege, generation: Path
) -> None:
    siege.forge(contents(generation))
    assert siege.push()[0] == 0
    swap = f"{INBOX}/../swap"
    siege.replica.sh(f"cp -r {INBOX} {swap} && chown -R certsync {swap}")
    script = f"cd {INBOX} && exec python3 -c {shlex.quote(SWAP)} 6 {' '.join(receiver.FILES)}"
    swapping = subprocess.Popen(
        [*siege.replica.ssh_argv(), f"sudo {AS_RECEIVING} sh -c {shlex.quote(script)}"]
    )
    answers, kept = [], 0
    try:
        while swapping.poll() is None:
            answers.append(siege.ask(f"check {NAME} 0002"))
            sums = siege.replica.sh(TAKE_OUT)
            assert sums.count(": OK\n") in (0, 4)
            kept += ": OK\n" in sums
    finally:
        swapping.wait(timeout=30)
        siege.replica.sh(f"rm -r {swap}")
    print(answers)
    assert kept == sum(answer["ok"] for answer in answers) < len(answers)
    assert not any("unexpected error" in answer.get("why", "") for answer in answers)
    assert f"'check {NAME} 0002': " in siege.log()


def test_a_good_generation_is_kept_and_not_live_before_it_is_activated(
    siege: Siege, generation: Path
) -> None:
    siege.forge(contents(generation))
    assert siege.push() == (0, "")
    assert siege.ask(f"check {NAME} 0002") == {"ok": True, "checked": "0002"}
    assert siege.replica.sh(f"ls {LINEAGE}; readlink {LIVE}") == (
        f"0000\n0001\n0002\n../../archive/{NAME}/0001\n".replace("../../", "../")
    )
    siege.replica.sh(f"rm -r {LINEAGE}/0002")


def test_who_has_the_push_key_deletes_what_is_not_in_use_and_nothing_else(
    siege: Siege, generation: Path
) -> None:
    siege.forge(contents(generation))
    assert siege.push() == (0, "")
    assert siege.ask(f"check {NAME} 0002")["ok"]
    live = siege.ask(f"discard {NAME} 0001")
    assert live == {"ok": False, "code": "host", "why": "generation 0001 is live"}
    own = siege.ask(f"discard {NAME} 0000")
    assert own == {"ok": False, "code": "host", "why": "generation 0000 is each backend's own"}
    assert siege.ask(f"discard {NAME} 0002") == {"ok": True, "discarded": "0002"}
    assert siege.ask(f"discard {NAME} 0002") == {"ok": True, "discarded": "0002"}
    assert siege.ask("discard evil.example.com 0001") == {"ok": True, "discarded": "0001"}
    assert siege.replica.sh(f"ls {LINEAGE}; ls /etc/certsync/archive /etc/certsync/staging") == (
        f"0000\n0001\n/etc/certsync/archive:\n{NAME}\n\n/etc/certsync/staging:\n"
    )
    assert f"'discard {NAME} 0001': generation 0001 is live" in siege.log()


@pytest.mark.parametrize("number", ["0002", "0001", "9999"])
def test_a_good_generation_that_is_only_tried_is_not_kept(
    siege: Siege, generation: Path, number: str
) -> None:
    siege.forge(contents(seal(generation, number)))
    assert siege.push() == (0, "")
    assert siege.ask(f"try {NAME} {number}") == {"ok": True, "tried": number}
    assert siege.replica.sh(f"ls {LINEAGE}") == "0000\n0001\n"
    assert siege.replica.sh(f"ls -A {INBOX} /etc/certsync/staging") == (
        f"/etc/certsync/staging:\n\n{INBOX}:\n"
    )
    again = siege.ask(f"try {NAME} {number}")
    assert again == {"ok": False, "code": "host", "why": "nothing has been received to test"}


def test_the_placeholder_cannot_be_tried(siege: Siege, generation: Path) -> None:
    siege.forge(contents(seal(generation, "0000")))
    assert siege.push()[0] == 0
    assert "is each backend's own" in siege.ask(f"try {NAME} 0000")["why"]


WRITES = [
    "touch /var/lib/certsync-receive/mine",
    "echo x >> /var/lib/certsync-receive/.ssh/authorized_keys",
    "mv /var/lib/certsync-receive/.ssh /var/lib/certsync-receive/was",
    "touch /var/lib/certsync-receive/.ssh/rc",
    "mv /var/lib/certsync-receive/inbox /var/lib/certsync-receive/was",
    f"echo x >> {PROGRAM}",
    "mv /usr/local/lib/certsync/forced-command /usr/local/lib/certsync/was",
    "echo x >> /usr/local/lib/certsync/rsyncd.conf",
    "touch /etc/sudoers.d/mine",
    "ls /etc/certsync/archive",
    f"cat {LIVE}/privkey.pem",
    f"ln -sfn ../archive/{NAME}/0000 {LIVE}",
    "ln /etc/shadow privkey.pem",
    "mknod privkey.pem c 1 3",
    "exec 9> /run/certsync-receiver.lock",
]


@pytest.mark.parametrize("command", WRITES)
def test_the_receiving_user_has_no_way_past_its_inbox(siege: Siege, command: str) -> None:
    status, _ = siege.on_replica(command)
    assert status not in (0, *NOT_TRIED)


@pytest.mark.parametrize(
    "command",
    [
        f"sudo -S {PROGRAM} boot",
        f"sudo -S {PROGRAM} placeholder evil.example.com",
        f"sudo -S {PROGRAM} ''",
        f"sudo -S -u admin {PROGRAM}",
        f"sudo -S -g certsync {PROGRAM}",
        f"sudo -S PYTHONPATH=/tmp {PROGRAM}",
        f"sudo -S -D /tmp {PROGRAM}",
        "sudo -S id",
        "sudo -S -s",
        "sudo -S /usr/bin/python3 -c 0",
        f"ln -s {PROGRAM} receiver; sudo -S ./receiver",
        "sudo -S -e /etc/shadow",
    ],
)
def test_sudo_lets_the_receiving_user_start_one_program_and_say_nothing_to_it(
    siege: Siege, command: str
) -> None:
    status, output = siege.on_replica(f"{command} < /dev/null")
    assert status == 1
    assert '"ok"' not in output
    assert "uid=0" not in output


def test_the_receiving_user_has_one_rule_and_no_password(siege: Siege) -> None:
    _, output = siege.on_replica("sudo -n -l")
    rules = [line.strip() for line in output.splitlines() if line.strip().startswith("(")]
    assert rules == [f'(root) NOPASSWD: {PROGRAM} ""']
    assert siege.replica.sh("passwd -S certsync").split()[1] == "L"


# The other side: what a hostile replica could ask the issuer's pushing user for


HOLD_OUTBOX = """
import subprocess, sys
from certsync.issuer.replicas import outgoing
with outgoing.outbox({"privkey.pem": b"secret\\n"}, "0007") as folder:
    print(folder, flush=True)
    subprocess.run(["setpriv", "--reuid", "certsync-push", "--regid", "certsync-push",
                    "--clear-groups", "sh", "-c", sys.argv[1]])
print("gone" if not folder.parent.exists() else "still there")
"""


def test_the_pushing_user_reads_the_outbox_and_writes_nothing_there(siege: Siege) -> None:
    tries = (
        "cd /run/certsync-push/outbox/0007 && cat privkey.pem; "
        "for try in 'echo x >> privkey.pem' 'rm privkey.pem' 'touch mine' 'touch ../mine' "
        "'ls ..' 'mv ../0007 ../0008' 'chmod 666 privkey.pem' 'rm -r ../../outbox'; do "
        'sh -c "$try" 2> /dev/null && echo "done: $try"; done; :'
    )
    told = siege.issuer.sh(
        f"/opt/certsync/current/bin/python -c {shlex.quote(HOLD_OUTBOX)} {shlex.quote(tries)}"
    )
    assert told == "/run/certsync-push/outbox/0007\nsecret\ngone\n"


@pytest.mark.parametrize(
    "command",
    [
        "ls /etc/certsync",
        f"cat {LIVE}/privkey.pem",
        "cat /etc/certsync/fleet.json",
        f"touch {PUSH}/mine",
        f"echo x >> {PUSH}/known_hosts",
        f"echo x >> {PUSH}/id_ed25519",
        "touch /run/certsync-push/mine",
        "mv /run/certsync-push/ssh /run/certsync-push/was",
        f"sudo -n {PROGRAM}",
        PROGRAM,
    ],
)
def test_the_pushing_user_can_do_nothing_else_on_the_issuer(siege: Siege, command: str) -> None:
    status, _ = siege.attack(command)
    assert status not in (0, *NOT_TRIED)


# The other side again: a replica that talks to the issuer as no receiver does


STAND = f"""
from certsync.issuer.replicas import backend, receivers
from certsync.issuer.store import Store
backend.RECEIVE_SECONDS = 3
fleet = Store().fleet()
with receivers.connected(fleet, fleet.backends) as among:
    for _, each in receivers.each(lambda one: one.standing("{NAME}"), among):
        print(each.name, each.reached, each.why)
"""
LEFT = "(pgrep -a -u certsync-push; ls /run/certsync-push/ssh) | grep -v hostile; true"
"""What a run has left behind; the attacker's own connection is not its."""


@pytest.fixture
def impostor(siege: Siege) -> Iterator[Callable[[str], None]]:
    """Return what puts another program in the forced command's place, until the end of the test."""
    gate = "/usr/local/lib/certsync/forced-command"
    siege.replica.sh(f"mv {gate} /run/forced-command")
    siege.attack(f"{siege.ssh()} -O exit {siege.replica.address}")

    def put(script: str) -> None:
        siege.replica.sh(f"cat > {gate}; chmod 755 {gate}", input=f"#!/bin/sh\n{script}")

    yield put
    siege.replica.sh(f"mv /run/forced-command {gate}")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exec cat /dev/zero", "ssh printed more than 262144 bytes"),
        ("exec cat /dev/zero >&2", "ssh printed more than 262144 bytes"),
        ("exec sleep 6", "ssh has not answered for 3 s"),
        ("while printf x; do sleep 0.1; done", "ssh has not answered for 3 s"),
        ("yes '{}'", "no receiver answers: {}"),
        ("head -c 1000000 /dev/zero | tr '\\0' '['; echo", "ssh printed more than 262144 bytes"),
        ("printf '\\033]0;owned\\007\\n'", "no receiver answers: ?]0;owned?"),
        ("exit 255", "ssh failed without an error message"),
    ],
)
def test_a_replica_that_answers_without_an_end_or_never_is_one_that_is_not_reached(
    siege: Siege, impostor: Callable[[str], None], script: str, why: str
) -> None:
    impostor(script)
    program = f"/opt/certsync/current/bin/python -c {shlex.quote(STAND)}"
    told = siege.issuer.sh(program, timeout=30).splitlines()
    assert told == ["backend-01 True ", f"backend-02 False {why}"]
    assert siege.issuer.sh(LEFT) == ""


def test_who_stops_a_rollout_does_not_wait_for_a_replica_that_never_answers(
    siege: Siege, impostor: Callable[[str], None]
) -> None:
    impostor("touch /tmp/asked; exec sleep 60")
    told = "/root/told"
    run = f"nohup sh -c 'certsync replicate > {told} 2>&1; echo $? >> {told}' > /dev/null 2>&1 &"
    siege.issuer.sh(run)
    # Stopped while it waits for the answer, however long it took to get there.
    siege.replica.sh("while ! [ -e /tmp/asked ]; do sleep 0.1; done; sleep 1; rm /tmp/asked")
    begin = time.monotonic()
    siege.issuer.sh("kill -TERM $(pgrep -f 'bin/certsync replicate$' | tail -n 1)")
    siege.issuer.sh(f"until grep -qx 130 {told}; do sleep 0.1; done", timeout=50)
    assert time.monotonic() - begin < 30
    assert "interrupted; run the same command again to continue" in siege.issuer.sh(
        f"cat {told}; rm {told}"
    )
    assert siege.issuer.sh(LEFT) == ""


def served(machine: Machine) -> str:
    return machine.sh("systemctl is-active nginx")


def test_after_all_that_the_replica_is_in_service(siege: Siege) -> None:
    assert served(siege.replica) == "active\n"
    answer = siege.ask(f"current {NAME} 0000")
    assert answer["current"] == "0001"
    assert set(answer["generations"]) == {"0000", "0001"}


CLAIMS = r"""
exec python3 -c '
import json, sys
many = {f"{number:04}": "f" * 64 for number in range(1, 9999)}
for line in sys.stdin:
    told = {"ok": True, "current": "9998", "generations": many}
    if not line.startswith("current "):
        told = {"ok": False, "code": "host", "why": "no"}
    print(json.dumps(told), flush=True)
'
"""


def test_a_replica_that_claims_all_numbers_moves_none_and_ends_no_renewal(
    siege: Siege, impostor: Callable[[str], None]
) -> None:
    impostor(CLAIMS)
    for number in ("0002", "0003"):
        status, told = siege.issuer.attempt("certsync renew --force")
        assert status != 0, "one replica did not take it"
        assert siege.issuer.sh(f"readlink /etc/certsync/live/{NAME}").endswith(f"/{number}\n"), told


def test_that_replica_gets_the_certificate_as_soon_as_it_is_a_replica_again(siege: Siege) -> None:
    assert siege.issuer.sh("certsync replicate > /dev/null 2>&1; echo $?") == "0\n"
    assert siege.ask(f"current {NAME} 0000")["current"] == "0003"
    siege.before = siege.state()
