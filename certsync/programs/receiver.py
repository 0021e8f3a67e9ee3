#!/usr/bin/python3 -IS
# Written by certsync; changes here are lost at the next deploy.
"""Root's program on every backend: check a generation, activate it, report which one is live.

It is installed as one file and needs only the standard library and openssl(1). On a replica the
unprivileged receiving user starts it through sudo, and its standard input is hostile: a few lines
`VERB NAME NUMBER`, each word matched against a fixed pattern. On the issuer root starts the same
program, so that activation works the same everywhere. Verbs for root only are given as arguments,
which the sudo rule does not allow.

Each line is answered with one line of JSON: `{"ok": true, …}`, or `{"ok": false, …}` with a "why"
and a "code" that says whether the generation or this host is the reason. One process answers
everything that a rollout asks of a host, and remembers what it has verified.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import syslog
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SCHEMA = 1
PEM_FILES = ("privkey.pem", "cert.pem", "chain.pem", "fullchain.pem")
MANIFEST = "manifest.json"
FILES = (*PEM_FILES, MANIFEST)
LARGEST = 64 * 1024
LONGEST_LINE = 300
"""Characters read of a line: more than the longest valid one has."""

MOST_LINES = 20
"""Lines that one process answers: several times what a rollout sends."""

PATIENCE = 120
"""Seconds to wait for each line: the issuer waits for all backends before it continues."""

KEPT = 3
"""How many of the newest generations are kept, in addition to the live one and the placeholder."""

X509_PARTIAL_CHAIN, X509_NO_CHECK_TIME = 0x80000, 0x200000
"""OpenSSL's flags: a chain may end below the root; the time is not checked."""

ANOTHERS_KEY = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""OpenSSL's reasons for a key that does not match: another key, or another type of key."""

CLOCK_OFF = 0.0
"""Seconds that this host's clock is ahead of the right time, as root says: on an issuer whose clock
is wrong, while a run goes by the CA's."""

CLOCK_TOLERANCE = 300
"""Seconds that a certificate may lie in the future: the issuer's clock is not ours."""

HOME = Path("/etc/certsync")
INBOX = Path("/var/lib/certsync-receive/inbox")
TICKETS = Path("/run/certsync-tickets")
"""Session ticket key sets, in memory, and the link to the one that nginx uses."""

TICKETS_INBOX = Path("/run/certsync-receive/tickets")
TICKET_KEYS = ("current.key", "next.key", "previous.key")
TICKET_KEY_SIZE = 80
"""Bytes; with this size nginx encrypts with AES-256."""

ACCEPTED_KEY = INBOX.parent / ".ssh/authorized_keys"
"""The issuer's push key, and its epoch."""

EPOCH = re.compile(r"^(?:# )?epoch ([1-9][0-9]{0,8}) of ([0-9a-f]{32})$", re.ASCII | re.MULTILINE)
"""Which issuer of which fleet: on the issuer in its marker, on a replica beside the push key."""

LOCK = Path("/run/certsync-receiver.lock")
LOCK_SECONDS = 60
"""How long to wait for others: less than systemd gives nginx to start, and an issuer an answer."""

RECEIVING_USER = "certsync"
NGINX = "/usr/sbin/nginx"
NGINX_REFUSES = 98
"""The exit status that distinguishes nginx's own refusal from a failed mount."""

NGINX_PID = Path("/run/nginx.pid")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
NUMBER = re.compile(r"[0-9]{4}", re.ASCII)
PLACEHOLDER = "0000"

VERIFIED: dict[str, tuple[float, float]] = {}
"""What this process has verified, by the whole manifest, and its validity's begin and end.

The manifest has the checksums of all files. They are recomputed each time; as long as they match,
nothing else needs to be verified again.
"""

TESTED: set[str] = set()
"""The manifests that this process has tested nginx with."""


class Refused(Exception):
    """A request is refused, and why. The reason may be this host: its disk, its clock."""

    code = "host"


class Failed(Refused):
    """A program exited with a status other than 0."""

    def __init__(self, why: str, status: int) -> None:
        super().__init__(why)
        self.status = status


class Unfit(Refused):
    """A generation is refused for its content: every host would refuse it."""

    code = "content"


class Unknown(Refused):
    """This version does not know what is requested."""

    code = "unknown"


def archive(name: str) -> Path:
    """Return the folder of all generations of a lineage."""
    return HOME / "archive" / name


def live(name: str) -> Path:
    """Return the link through which nginx reads a lineage's files."""
    return HOME / "live" / name


def run(*argv: str, text: str = "", seconds: int = 60) -> str:
    """Run a command and return its standard output, or refuse with its error."""
    environment = {"PATH": PATH, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            argv,
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",
            timeout=seconds,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise Refused(f"{argv[0]} took longer than {seconds} s") from None
    if done.returncode != 0:
        output = (done.stderr or done.stdout).strip().splitlines()
        raise Failed(f"{' '.join(argv[:2])}: {'; '.join(output[-3:])[-500:]}", done.returncode)
    return done.stdout


# Reading the inbox


@contextlib.contextmanager
def rights_of(user: str):
    """Access the file system as an unprivileged user inside the block."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise Refused(f"this host has no user {user}: deploy again") from None
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(entry.pw_gid)
    os.seteuid(entry.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def read_inbox(inbox: Path, names: tuple = FILES) -> dict:
    """Return these files' contents, read with the receiving user's rights.

    Nothing, unless all of them exist: an interrupted push does not count as received. Symbolic
    links, FIFOs, devices and additional hard links are refused.
    """
    with rights_of(RECEIVING_USER):
        folder = os.open(inbox, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if not set(names).issubset(os.listdir(folder)):
                return {}
            return {name: read_regular(name, folder) for name in names}
        finally:
            os.close(folder)


def read_regular(name: str, folder: int) -> bytes:
    """Return the contents of a regular file of at most ``LARGEST`` bytes."""
    try:
        # Non-blocking: opening a FIFO would wait forever for a writer.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        handle = os.open(name, flags, dir_fd=folder)
    except OSError as error:
        raise Refused(f"inbox: {name}: {error.strerror}") from None
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
        os.close(handle)
        raise Refused(f"inbox: {name} is not a regular file")
    with os.fdopen(handle, "rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise Refused(f"inbox: {name} is larger than {LARGEST} bytes")
    return content


def empty_inbox(inbox: Path) -> None:
    """Empty the inbox, with the receiving user's rights."""
    with rights_of(RECEIVING_USER):
        for entry in list(os.scandir(inbox)):
            # An entry that cannot be removed, such as a very deep tree, must not protect the rest.
            with contextlib.suppress(OSError, RecursionError):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


# Verifying a generation


def now() -> float:
    """Return the time to judge by, in seconds since 1970."""
    return time.time() - CLOCK_OFF


def digest(content: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def read_manifest(folder: Path) -> dict:
    """Return a generation's manifest."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        schema, sums = manifest["schema"], manifest["files"]
        if not isinstance(schema, int) or not isinstance(sums, dict):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refused(f"{folder}: no readable manifest ({type(error).__name__})") from None
    if schema > SCHEMA:
        raise Refused(
            f"the manifest has schema {schema}, this receiver reads up to {SCHEMA}: deploy again"
        )
    return manifest


def verify_sums(folder: Path) -> dict:
    """Return a generation's manifest if its files match their checksums."""
    manifest = read_manifest(folder)
    for name in PEM_FILES:
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise Refused(f"{folder.name}: {name}: {error.strerror}") from None
        if digest(content) != manifest["files"].get(name):
            raise Refused(f"{folder.name}: {name} does not match the manifest (SHA-256 differs)")
    return manifest


def verify(folder: Path, name: str, number: str, now: float) -> str:
    """Refuse a generation unless it is intact, consistent and valid for ``name`` now.

    The returned seal identifies its contents: no other generation has the same one.
    """
    manifest = verify_sums(folder)
    if (manifest.get("lineage"), manifest.get("number")) != (name, number):
        raise Unfit(f"the manifest does not belong to {name} {number}")
    seal = json.dumps(manifest, sort_keys=True)
    if seal not in VERIFIED:
        VERIFIED[seal] = verify_contents(folder, name, manifest)
    begin, end = VERIFIED[seal]
    if now >= end:
        raise Refused(f"{folder.name}: the certificate has expired; is this host's clock right?")
    if now + CLOCK_TOLERANCE < begin:
        raise Refused(f"{folder.name}: not valid yet; is this host's clock right?")
    return seal


def verify_contents(folder: Path, name: str, manifest: dict) -> tuple:
    """Refuse files that do not belong together; return when their validity begins and ends."""
    parts = [(folder / file).read_bytes() for file in ("cert.pem", "chain.pem", "fullchain.pem")]
    if parts[0] + parts[1] != parts[2]:
        raise Unfit(f"{folder.name}: fullchain.pem is not cert.pem followed by chain.pem")
    import ssl

    certificate = shown_to_clients(folder, "chain.pem" if parts[1] else "cert.pem")
    alternatives = certificate.get("subjectAltName", ())
    names = sorted(value for kind, value in alternatives if kind == "DNS")
    if names != sorted(manifest.get("names", [])) or name not in names:
        raise Unfit(f"{folder.name}: the certificate is for {', '.join(names) or 'no name'}")
    begin, end = certificate["notBefore"], certificate["notAfter"]
    return ssl.cert_time_to_seconds(begin), ssl.cert_time_to_seconds(end)


def verify_pair(folder: Path):
    """Return a TLS server context for the generation; refuse a key that does not match."""
    # Imported only where it is used: asking for the current generation need not wait for it.
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An empty pass phrase keeps OpenSSL from prompting.
        context.load_cert_chain(folder / "fullchain.pem", folder / "privkey.pem", password="")
    except ssl.SSLError as error:
        if error.reason in ANOTHERS_KEY:
            why = "the private key does not belong to the certificate"
        else:
            why = f"key and certificate cannot be read ({error.reason or error})"
        raise Unfit(f"{folder.name}: {why}") from None
    return context


def shown_to_clients(folder: Path, trusted: str) -> dict:
    """Return the leaf as a client sees it that trusts one of the generation's files.

    A full TLS handshake in memory verifies the key and the chain. Dates are checked separately, and
    the root is not on this host.
    """
    import ssl

    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= X509_PARTIAL_CHAIN | X509_NO_CHECK_TIME
    # A malicious key can make its arithmetic take forever, and C code runs no Python handler.
    signal.alarm(PATIENCE)
    try:
        server = verify_pair(folder)
        client.load_verify_locations(folder / trusted)
        return handshake(server, client)
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", "") or error.reason or error
        raise Unfit(f"{folder.name}: clients would reject it: {why}") from None
    finally:
        signal.alarm(0)


def handshake(server, client, name=None) -> dict:
    """Return the certificate that a TLS server presents to a client, both in memory.

    ``server`` and ``client`` are contexts, ``name`` is the server name that the client asks for. An
    `ssl.SSLError` says why the client or the server refuses.
    """
    import ssl

    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(back, there, server_hostname=name),
        server.wrap_bio(there, back, server_side=True),
    )
    # Three rounds suffice for every TLS version; an end that has finished does nothing.
    for end in ends * 3:
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return ends[0].getpeercert() or {}


# Writing


def sync_folder(folder: Path) -> None:
    """Make the folder's entries survive a power failure."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> Path:
    """Make a folder that only root can read, and its parents up to ``HOME``."""
    if folder != HOME:
        make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        sync_folder(folder.parent)
    return folder


def write_generation(files: dict, name: str, number: str) -> Path:
    """Write the files to a new folder in ``staging``, synced to disk, and return it."""
    staging = make_folder(HOME / "staging")
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-{number}.", dir=staging))
    try:
        for file, content in files.items():
            handle = os.open(folder / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as sink:
                sink.write(content)
                sink.flush()
                os.fsync(sink.fileno())
        sync_folder(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def keep(folder: Path, name: str, number: str) -> None:
    """Move a checked generation into the archive, whole."""
    target = make_folder(archive(name)) / number
    if target.exists():
        # Only a generation that fails verification is ever replaced; see `check`.
        target.rename(tempfile.mkdtemp(prefix="broken.", dir=HOME / "staging") + "/was")
    folder.rename(target)
    sync_folder(target.parent)


def clear_staging() -> None:
    """Remove what an interrupted run left behind."""
    for left in (HOME / "staging").glob("*"):
        shutil.rmtree(left, ignore_errors=True)


def point(name: str, number: str) -> None:
    """Point the live link to a generation, in one rename."""
    link = live(name)
    make_folder(link.parent)
    new = link.with_name(f".{name}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    new.symlink_to(f"../archive/{name}/{number}")
    os.replace(new, link)
    sync_folder(link.parent)


# Verbs


def current_number(name: str) -> str:
    """Return the number of the live generation, or nothing."""
    try:
        return Path(os.readlink(live(name))).name
    except OSError:
        return ""


def current(name: str, _number: str = "") -> dict:
    """Report the live generation, and the checksums of all intact generations' manifests."""
    manifests = {
        folder.name: whole_manifest(folder) for folder in sorted(archive(name).glob("[0-9]" * 4))
    }
    sums = {number: digest(text) for number, text in manifests.items() if text is not None}
    return {"current": current_number(name), "generations": sums, "epoch": epoch()}


def epoch() -> str:
    """Return the epoch of the issuer whose push key this host accepts; nothing if unknown."""
    try:
        with ACCEPTED_KEY.open(encoding="ascii", errors="replace") as file:
            found = EPOCH.search(file.read(LARGEST))
    except OSError:
        return ""
    return found[0].removeprefix("# ") if found else ""


def check(name: str, number: str) -> dict:
    """Check a generation on this host, taking it from the inbox if it is there."""
    if number == PLACEHOLDER:
        raise Refused("generation 0000 is each backend's own")
    clear_staging()
    there = archive(name) / number
    # Only a replica has an inbox. Root owns the folder, but not its contents.
    if INBOX.is_dir():
        try:
            if files := read_inbox(INBOX):
                take(write_generation(files, name, number), there, name, number)
        finally:
            clear_staging()
            empty_inbox(INBOX)
    if not there.is_dir():
        raise Refused(f"generation {number} has not been received")
    try_once(there, name, verify(there, name, number, now()))
    return {"checked": number}


def try_out(name: str, number: str) -> dict:
    """Check what is in the inbox without keeping it: a rehearsal."""
    if number == PLACEHOLDER:
        raise Refused("generation 0000 is each backend's own")
    clear_staging()
    try:
        files = read_inbox(INBOX) if INBOX.is_dir() else {}
        if not files:
            raise Refused("nothing has been received to test")
        folder = write_generation(files, name, number)
        verify(folder, name, number, now())
        try_server(folder, name)
    finally:
        clear_staging()
        if INBOX.is_dir():
            empty_inbox(INBOX)
    return {"tried": number}


def take(folder: Path, there: Path, name: str, number: str) -> None:
    """Check a staged copy and keep it, unless the same one is kept already."""
    kept = whole_manifest(there)
    if kept is not None and read_manifest(folder).get("number") != number:
        # Left by a killed rehearsal: ignore it, since the generation asked for is already kept.
        return
    seal = verify(folder, name, number, now())
    if kept is None:
        try_once(folder, name, seal)
        keep(folder, name, number)
    elif kept != (folder / MANIFEST).read_bytes():
        raise Refused(f"a different generation {number} is already kept here")


def whole_manifest(folder: Path):
    """Return the manifest's bytes if the generation is intact; else None."""
    with contextlib.suppress(Refused):
        verify_sums(folder)
        return (folder / MANIFEST).read_bytes()
    return None


class Nginx:
    """The web server; it implements `certsync/model/server.py`."""

    def test(self, folder: Path, live: Path) -> None:
        """Test the whole configuration with this folder in place of the live one.

        It is mounted over the live one in a separate mount namespace, so nothing changes for the
        running server. If nginx refuses the live one as well, the generation is not the reason.
        """
        script = f'mount --bind "$1" "$2" || exit 1; "$3" -t -q || exit {NGINX_REFUSES}'
        try:
            run("unshare", "--mount", "sh", "-c", script, "sh", str(folder), str(live), NGINX)
        except Failed as failed:
            if failed.status != NGINX_REFUSES:
                raise
            run(NGINX, "-t", "-q")
            raise Unfit(str(failed)) from None

    def reload(self) -> None:
        """Reload nginx, or start it if it is not running.

        The distribution's unit also uses `nginx -s reload`. It loads the whole configuration and
        all certificates before it sends the signal, and fails without sending it if they are
        invalid.
        """
        if self.runs():
            run(NGINX, "-q", "-s", "reload")
        else:
            run("systemctl", "reload-or-restart", "nginx.service")

    @staticmethod
    def runs() -> bool:
        """Return whether the process in nginx's PID file is nginx."""
        try:
            return Path(f"/proc/{int(NGINX_PID.read_text())}/comm").read_text() == "nginx\n"
        except (OSError, ValueError):
            return False


SERVER = Nginx()


def try_once(folder: Path, name: str, seal: str) -> None:
    """Test the web server with a generation, unless the same contents were tested before."""
    if seal not in TESTED:
        try_server(folder, name)
        TESTED.add(seal)


def try_server(folder: Path, name: str) -> None:
    """Test the web server as if this generation were live."""
    if not live(name).is_dir():
        if not archive(name).is_dir():
            raise Refused(f"{live(name)} does not exist: deploy again")
        # A missing or dangling link must not keep the next certificate from being activated.
        fall_back(name)
    SERVER.test(folder, live(name).resolve(strict=True))


def activate(name: str, number: str) -> dict:
    """Point the live link to a generation and reload nginx; revert if that fails."""
    folder = archive(name) / number
    if number == PLACEHOLDER:
        raise Refused("generation 0000 is a placeholder and cannot be activated")
    try_once(folder, name, verify(folder, name, number, now()))
    before = current_number(name)
    try:
        point(name, number)
        SERVER.reload()
    except BaseException:
        if before and before != number:
            point(name, before)
            with contextlib.suppress(Refused, OSError):
                SERVER.reload()
        raise
    return {"current": number, "before": before, "pruned": prune(name)}


def prune(name: str) -> list:
    """Remove old generations and return their numbers; one that cannot be removed is left."""
    pruned = []
    with contextlib.suppress(OSError):
        numbers = sorted(each.name for each in archive(name).glob("[0-9]" * 4))
        spared = {PLACEHOLDER, current_number(name), *numbers[-KEPT:]}
        for number in set(numbers) - spared:
            aside = put_aside(archive(name) / number)
            pruned.append(number)
            shutil.rmtree(aside, ignore_errors=True)
    return sorted(pruned)


def put_aside(folder: Path) -> str:
    """Move a generation out of the archive and return its folder in ``staging``.

    It is one rename, so nobody ever sees half of a generation.
    """
    aside = tempfile.mkdtemp(prefix="pruned.", dir=make_folder(HOME / "staging"))
    folder.rename(aside + "/was")
    return aside


def discard(name: str, number: str) -> dict:
    """Delete a generation whose key is compromised; it is fine if it does not exist."""
    folder = archive(name) / number
    if number == PLACEHOLDER:
        raise Refused("generation 0000 is each backend's own")
    if number == current_number(name):
        raise Refused(f"generation {number} is live")
    if os.path.lexists(folder):
        put_aside(folder)
        sync_folder(folder.parent)
    # What an interrupted run left behind contains keys, too.
    if INBOX.is_dir():
        empty_inbox(INBOX)
    clear_staging()
    if left := [each.name for each in (HOME / "staging").glob("*")]:
        raise Refused(f"{HOME / 'staging'}: {left[0]} cannot be removed")
    return {"discarded": number}


# Session ticket keys


def tickets() -> dict:
    """Make nginx use the session ticket keys in their inbox."""
    if not TICKETS_INBOX.is_dir():
        raise Refused("this host has no inbox for session ticket keys: deploy again")
    try:
        keys = read_inbox(TICKETS_INBOX, TICKET_KEYS)
        if not keys:
            raise Refused("no complete set of session ticket keys has been received")
        use_tickets(keys)
    finally:
        empty_inbox(TICKETS_INBOX)
    return {}


def use_tickets(files: dict) -> None:
    """Make nginx use this set of keys; revert to the previous one if that fails.

    Other files are kept beside the keys, and removed with them.
    """
    for name in TICKET_KEYS:
        if len(files[name]) != TICKET_KEY_SIZE:
            raise Refused(f"{name} has {len(files[name])} bytes, a key has {TICKET_KEY_SIZE}")
        # The issuer makes random ones: this catches a mistake, not somebody who knows the keys.
        if len(set(files[name])) == 1:
            raise Refused(f"{name} is one byte repeated, and no random key")
    if len({files[name] for name in TICKET_KEYS}) == 1:
        raise Refused("the three keys are the same, and no random ones")
    link = TICKETS / "live"
    before = os.readlink(link) if link.is_symlink() else ""
    folder = write_ticket_set(files)
    try:
        point_tickets(folder.name)
        SERVER.reload()
    except BaseException:
        if before:
            point_tickets(before)
            with contextlib.suppress(Refused, OSError):
                SERVER.reload()
            shutil.rmtree(folder, ignore_errors=True)
        raise
    for left in TICKETS.glob("set.*"):
        if left != folder:
            shutil.rmtree(left, ignore_errors=True)


def ticket_keys() -> dict:
    """Return the keys that nginx uses; nothing if a file is missing or not a key."""
    try:
        keys = {name: (TICKETS / "live" / name).read_bytes() for name in TICKET_KEYS}
    except OSError:
        return {}
    whole = all(len(content) == TICKET_KEY_SIZE for content in keys.values())
    return keys if whole else {}


def write_ticket_set(files: dict) -> Path:
    """Write files to a new folder in memory that only root can read, and return it.

    Nothing is synced: they must not survive a power failure.
    """
    TICKETS.mkdir(mode=0o700, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="set.", dir=TICKETS))
    for name, content in files.items():
        handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as sink:
            sink.write(content)
    return folder


def point_tickets(name: str) -> None:
    """Point nginx's link to another set, in one rename."""
    new = TICKETS / f".live.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    new.symlink_to(name)
    os.replace(new, TICKETS / "live")


def own_tickets() -> bool:
    """Make keys of this host's own if there are none, and return whether they were made.

    nginx does not start without them.
    """
    if ticket_keys():
        return False
    # Whatever else is in the way, nginx cannot use it.
    if TICKETS.is_symlink() or not TICKETS.is_dir():
        with contextlib.suppress(FileNotFoundError):
            TICKETS.unlink()
    elif (TICKETS / "live").is_dir() and not (TICKETS / "live").is_symlink():
        shutil.rmtree(TICKETS / "live")
    keys = {name: os.urandom(TICKET_KEY_SIZE) for name in TICKET_KEYS}
    point_tickets(write_ticket_set(keys).name)
    return True


# Verbs for root only


def placeholder(name: str, *names: str) -> dict:
    """Make the self-signed generation 0000, so that nginx can start before the first issue."""
    if current_number(name):
        return {"current": current_number(name), "changed": False}
    clear_staging()
    make_placeholder(name, *names)
    return {"current": PLACEHOLDER, "changed": True}


def make_placeholder(name: str, *names: str) -> None:
    """Make generation 0000, replacing a damaged one, and point the live link to it.

    Its key is this host's own, so it can be recreated at any time.
    """
    alternatives = ",".join(f"DNS:{each}" for each in (name, *names))
    work = write_generation({}, name, PLACEHOLDER)
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-days", "3650", "-subj", "/CN=certsync placeholder",
        "-addext", f"subjectAltName={alternatives}",
        "-keyout", str(work / "privkey.pem"), "-out", str(work / "cert.pem"))  # fmt: skip
    files = {file: (work / file).read_bytes() for file in ("privkey.pem", "cert.pem")}
    shutil.rmtree(work)
    files.update({"chain.pem": b"", "fullchain.pem": files["cert.pem"]})
    manifest = {
        "schema": SCHEMA, "lineage": name, "number": PLACEHOLDER, "names": [name, *names],
        "files": {file: digest(content) for file, content in files.items()},
    }  # fmt: skip
    files[MANIFEST] = json.dumps(manifest, indent=1).encode()
    keep(write_generation(files, name, PLACEHOLDER), name, PLACEHOLDER)
    point(name, PLACEHOLDER)


def boot() -> dict:
    """Before nginx starts, make each live link point to an intact generation."""
    clear_staging()
    places = [*(HOME / "archive").glob("*"), *(HOME / "live").glob("*")]
    fell_back = {}
    for name in sorted({path.name for path in places if NAME.fullmatch(path.name)}):
        try:
            verify_whole(archive(name) / (current_number(name) or "no live link"))
        except Refused as refused:
            fell_back[name] = {"to": fall_back(name), "why": str(refused)}
    return {"fell_back": fell_back}


def verify_whole(folder: Path) -> None:
    """Refuse a generation that nginx could not start with, whatever the date."""
    verify_sums(folder)
    verify_pair(folder)


def fall_back(name: str) -> str:
    """Point the live link to the newest intact generation before the live one, and return it.

    If there is none, nginx starts with a new placeholder: port 80 and its challenges need it, too.
    """
    broken = current_number(name)
    for folder in sorted(archive(name).glob("[0-9]" * 4), reverse=True):
        if broken and folder.name >= broken:
            continue
        with contextlib.suppress(Refused):
            verify_whole(folder)
            point(name, folder.name)
            return folder.name
    make_placeholder(name)
    return PLACEHOLDER


# The two ways in

FROM_INPUT: dict[str, Callable[..., dict]] = {
    "current": current,
    "check": check,
    "try": try_out,
    "activate": activate,
    "discard": discard,
}
WITHOUT_NAME: dict[str, Callable[..., dict]] = {"tickets": tickets}
"""Verbs that take no name."""

FROM_ARGUMENTS: dict[str, Callable[..., dict]] = {"placeholder": placeholder, "boot": boot}


def answer(line: str) -> dict:
    """Carry out one line of standard input."""
    if line in WITHOUT_NAME:
        return WITHOUT_NAME[line]()
    words = line.split(" ")
    verb, name = words[0], words[1] if len(words) > 1 else ""
    number = words[2] if len(words) > 2 else PLACEHOLDER
    if verb not in FROM_INPUT or len(words) > 3:
        raise Unknown("no such verb")
    if not NAME.fullmatch(name) or ".." in name or not NUMBER.fullmatch(number):
        raise Refused("no such name or number")
    return FROM_INPUT[verb](name, number)


def run_verb(work: Callable[..., dict], *arguments: str) -> dict:
    """Return the answer of ``work``, or why it refused; both are logged to syslog."""
    try:
        result = {"ok": True, **work(*arguments)}
    except Refused as refused:
        result = {"ok": False, "code": refused.code, "why": plain(str(refused))}
    except OSError as error:
        why = plain(f"{error.filename or 'a file'}: {error.strerror}")
        result = {"ok": False, "code": Refused.code, "why": why}
    except Exception as error:  # noqa: BLE001  # hostile input must always get an answer
        result = {"ok": False, "code": Refused.code, "why": plain(f"unexpected error: {error!r}")}
    asked = plain(" ".join(arguments))
    if not asked.startswith("current ") or not result["ok"]:
        level = syslog.LOG_NOTICE if result["ok"] else syslog.LOG_WARNING
        syslog.syslog(level, f"'{asked}': {result.get('why', 'done')}")
    return result


def plain(text: str) -> str:
    """Return text that is safe for a log or a terminal: one printable, short line."""
    return text[:600].encode("unicode_escape").decode()


def lines():
    """Yield the lines of standard input.

    It stops at a line that is too long, after too many, or after too long a silence.
    """
    for _ in range(MOST_LINES):
        signal.alarm(PATIENCE)
        line = sys.stdin.buffer.readline(LONGEST_LINE)
        signal.alarm(0)
        if line:
            yield line.decode("ascii", "backslashreplace").removesuffix("\n")
        if not line.endswith(b"\n"):
            return


@contextlib.contextmanager
def lock_file():
    """Return the open lock file. Whoever can open it could hold it for ever, so only root can."""
    handle = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle) as lock:
        os.fchmod(handle, 0o600)
        yield lock


@contextlib.contextmanager
def alone(lock):
    """Let no other process work on this host's generations and ticket keys inside the block."""
    last = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > last:
                raise Refused(f"{LOCK} was held by others for {LOCK_SECONDS} s") from None
            time.sleep(0.02)
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)


def say(lock, work: Callable[..., dict], *arguments: str) -> bool:
    """Do the work, print the answer on a line, and return whether it succeeded."""

    def locked(*words: str) -> dict:
        # Only for the work: a slow client must not block others, least of all nginx at boot.
        with alone(lock):
            return work(*words)

    result = run_verb(locked, *arguments)
    signal.alarm(PATIENCE)
    os.write(1, f"{json.dumps(result)}\n".encode())
    signal.alarm(0)
    return result["ok"]


def main(arguments: list) -> int:
    """Carry out each line on standard input, or root's verb from the arguments."""
    os.umask(0o077)
    if arguments[:1] == ["clock-off"]:
        global CLOCK_OFF  # one process, one clock
        CLOCK_OFF, arguments = float(arguments[1]), []
    if arguments == ["own-tickets"]:
        # Without the lock and the log: if they failed or blocked, nginx would not start.
        own_tickets()
        return 0
    syslog.openlog("certsync-receiver", facility=syslog.LOG_AUTH)
    with lock_file() as lock:
        if arguments:
            verb, *rest = arguments
            return 0 if say(lock, FROM_ARGUMENTS[verb], *rest) else 1
        refused = [line for line in lines() if not say(lock, answer, line)]
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
