"""Carry a generation to the replicas and speak with their receivers, over one SSH connection each.

ssh and rsync run as an unprivileged user that can read the generation in the outbox and the push
key, and write nothing: a server can try to read its rsync client's files (CVE-2024-12086).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from certsync import host, receiver
from certsync.errors import HostError
from certsync.fleet import Fleet, Machine
from certsync.generation import number_text
from certsync.rollout import Standing

PUSHING_USER = "certsync-push"
PUSH_HOME = Path("/var/lib/certsync-push")
RUNTIME = Path("/run/certsync-push")
RECEIVER = "/usr/local/lib/certsync/receiver"
AT_ONCE = 16
"""Replicas worked on at the same time."""

RECEIVE_SECONDS = 90

RSYNC_LOST_CONNECTION = (12, 30, 255)
"""rsync(1)'s exit values for a connection that ended or fell silent, and ssh(1)'s own."""

Answer = dict[str, Any]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Backend:
    """A backend's receiver, as the issuer reaches it: its own by a process, a replica's by SSH."""

    machine: Machine
    local: bool

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.machine.name

    def ask(self, verb: str, lineage: str, number: int) -> Answer:
        """Return the receiver's answer; a refusal is an answer with `ok` false.

        Raises:
            HostError: the backend cannot be reached, or does not speak as a receiver.
        """
        line = f"{verb} {lineage} {number_text(number)}\n"
        if self.local:
            done = host.run([RECEIVER], input=line, seconds=RECEIVE_SECONDS)
        else:
            argv = [*self._ssh(), "certsync-receiver"]
            done = host.run(argv, input=line, seconds=RECEIVE_SECONDS, user=PUSHING_USER)
            if done.status == 255:
                raise host.ssh_reason(self.name, done.stderr)
        answer = parsed(done.stdout)
        if answer is None:
            raise HostError(
                f"{self.name}: no receiver answers: {done.last_words or done.status}",
                "run `certsync deploy` again",
            )
        return answer

    def standing(self, lineage: str) -> Standing:
        """Return what the backend says it has, or why it cannot be asked."""
        try:
            answer = self.ask("current", lineage, 0)
        except HostError as error:
            return self.unheard(error)
        if not answer["ok"]:
            return Standing(self.name, reached=False, why=answer["why"])
        return Standing(
            self.name,
            reached=True,
            current=str(answer.get("current", "")),
            generations=answer["generations"],
        )

    def unheard(self, error: HostError) -> Standing:
        """Return the standing of a backend that could not be asked."""
        return Standing(self.name, reached=False, why=error.message.removeprefix(f"{self.name}: "))

    def push(self, outbox: Path) -> None:
        """Send the outbox's files to a replica's inbox with rsync.

        Raises:
            HostError: it did not arrive.
        """
        transport = " ".join(self._ssh(destination=False))
        argv = [
            # The modification time says nothing about a key's content, so it is always sent.
            "rsync", "--ignore-times", "--no-s", "-e", transport,
            *(str(outbox / name) for name in receiver.FILES),
            f"{_bracketed(self.machine.private_address)}::inbox/",
        ]  # fmt: skip
        done = host.run(argv, seconds=RECEIVE_SECONDS, user=PUSHING_USER)
        if done.status in RSYNC_LOST_CONNECTION:
            raise host.ssh_reason(self.name, done.stderr)
        if done.status != 0:
            raise HostError(f"{self.name}: rsync failed ({done.status}): {done.last_words}")

    def hang_up(self) -> None:
        """Close the connection kept open for the next question."""
        if not self.local:
            host.run([*self._ssh(destination=False), "-O", "exit", self._destination()],
                     user=PUSHING_USER)  # fmt: skip

    def _ssh(self, *, destination: bool = True) -> list[str]:
        argv = [
            "ssh", "-F", "none", "-i", str(PUSH_HOME / "id_ed25519"),
            "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
            "-o", f"UserKnownHostsFile={PUSH_HOME / 'known_hosts'}",
            "-o", "GlobalKnownHostsFile=none", "-o", "StrictHostKeyChecking=yes",
            "-o", "UpdateHostKeys=no", "-o", f"ConnectTimeout={host.CONNECT_SECONDS}",
            "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3",
            "-o", f"KexAlgorithms=^{host.KEX}",
            "-o", "ControlMaster=auto", "-o", f"ControlPath={RUNTIME}/ssh/%C",
            "-o", "ControlPersist=30",
            "-l", receiver.RECEIVING_USER, "-p", str(self.machine.ssh_port),
        ]  # fmt: skip
        return [*argv, self._destination()] if destination else argv

    def _destination(self) -> str:
        return self.machine.private_address


def parsed(text: str) -> Answer | None:
    """Return a receiver's answer; None: it is none. A replica may send us anything."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not isinstance(data.get("ok"), bool):
        return None
    generations = data.get("generations", {})
    if not isinstance(generations, dict):
        return None
    return {**data, "generations": generations, "why": host.printable(str(data.get("why", "")))}


def backends(fleet: Fleet) -> list[Backend]:
    """Return all backends' receivers, the issuer's first."""
    issuer = Backend(fleet.issuer, local=True)
    return [issuer, *(Backend(machine, local=False) for machine in fleet.replicas)]


def each(
    work: Callable[[Backend], Result], among: Sequence[Backend]
) -> list[tuple[Backend, Result | HostError]]:
    """Return what ``work`` gives for each backend, many at once; one's failure is its own."""

    def guarded(backend: Backend) -> Result | HostError:
        try:
            return work(backend)
        except HostError as error:
            return error

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(zip(among, pool.map(guarded, among), strict=True))


def open_runtime() -> None:
    """Have the folder, in memory, where the pushing user keeps its open connections."""
    RUNTIME.mkdir(mode=0o755, exist_ok=True)
    RUNTIME.chmod(0o755)
    sockets = RUNTIME / "ssh"
    sockets.mkdir(mode=0o700, exist_ok=True)
    shutil.chown(sockets, PUSHING_USER, PUSHING_USER)


@contextmanager
def outbox(files: dict[str, bytes], number: int) -> Iterator[Path]:
    """Have the generation's files where only root and the pushing user can read them.

    In memory, root's, read-only for the pushing user, and gone after the block.
    """
    shutil.rmtree(RUNTIME / "outbox", ignore_errors=True)
    open_runtime()
    group = PUSHING_USER
    folder = RUNTIME / "outbox" / number_text(number)
    folder.parent.mkdir(mode=0o710)
    shutil.chown(folder.parent, "root", group)
    folder.parent.chmod(0o710)
    folder.mkdir(mode=0o700)
    try:
        for name, content in files.items():
            handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as sink:
                sink.write(content)
            shutil.chown(folder / name, "root", group)
            (folder / name).chmod(0o640)
        shutil.chown(folder, "root", group)
        folder.chmod(0o750)
        yield folder
    finally:
        shutil.rmtree(RUNTIME / "outbox", ignore_errors=True)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
