"""Carry a generation to the replicas and speak with their receivers, over one SSH connection each.

ssh and rsync run as an unprivileged user that can read the generation in the outbox and the push
key, and write nothing: a server can try to read its rsync client's files (CVE-2024-12086).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from certsync.issuer.replicas.answer import Answer, parsed
from certsync.issuer.replicas.outgoing import open_runtime
from certsync.issuer.replicas.rollout import Standing
from certsync.model.errors import HostError, KeyRefusedError, UnreachableError
from certsync.model.fleet import Fleet, Machine
from certsync.model.generation import number_text
from certsync.model.paths import PUSH_HOME, PUSH_RUNTIME, PUSHING_USER, RECEIVER
from certsync.programs import receiver
from certsync.system import parallel, process, ssh

RECEIVE_SECONDS = 90
"""How long a push or an answer may take; less than a receiver waits for the next question."""

TICKETS = "tickets"
"""What the module for session ticket keys is called, and the verb that has them used."""

OLDER = "its receiver is of an older certsync"
BRING_NEWER = "bring the newer receiver there: certsync deploy FLEET"
UNKNOWN_MODULE = f"Unknown module '{TICKETS}'"
"""What rsync says of an inbox that its configuration there does not have (clientserver.c)."""

SSH_FAILED = 255
RSYNC_LOST_CONNECTION = (12, 30, SSH_FAILED)
"""rsync(1)'s exit values for a connection that ended or fell silent, and ssh(1)'s own."""

Result = TypeVar("Result")


@dataclass
class Backend:
    """A backend's receiver, as the issuer reaches it: its own as a process, a replica's by SSH.

    The first question starts it, and the connection with it; `close` ends both.
    """

    machine: Machine
    local: bool
    _conversation: process.Conversation | None = field(default=None, init=False, repr=False)
    _has_answered: bool = field(default=False, init=False, repr=False)
    _is_over: bool = field(default=False, init=False, repr=False)

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.machine.name

    def ask(self, verb: str, lineage: str, number: int) -> Answer:
        """Return the receiver's answer; a refusal is an answer with `ok` false.

        Raises:
            HostError: the backend cannot be reached, or does not speak as a receiver.
        """
        return self._answer(f"{verb} {lineage} {number_text(number)}")

    def _answer(self, line: str) -> Answer:
        told = self._told(line)
        if not told and self._has_answered:
            # The others took so long that its patience ended: it is started again.
            self.close()
            told = self._told(line)
        answer = parsed(told)
        if answer is None:
            raise self._nonsense(told)
        self._has_answered = True
        return answer

    def _told(self, line: str) -> str:
        try:
            conversation = self._conversation
            if conversation is None:
                self._conversation = conversation = self._start()
            if self._is_over:
                # The run was interrupted while the connection came about, and waits for nobody.
                self.close()
                return ""
            return conversation.ask(line, RECEIVE_SECONDS)
        except HostError as error:
            raise HostError(error.why, error.hint, host=self.name) from None

    def _start(self) -> process.Conversation:
        if self.local:
            return process.Conversation([RECEIVER])
        argv = [*self._ssh(), "-o", "ControlMaster=yes", self.machine.private_address]
        return process.Conversation([*argv, "certsync-receiver"], user=PUSHING_USER)

    def _nonsense(self, told: str) -> HostError:
        done = self.close()
        if not self.local and not told and done.status == SSH_FAILED:
            return self._unreached(done.stderr)
        words = process.printable(told) or done.error_summary or str(done.status)
        return HostError(
            f"no receiver answers: {words}", "run `certsync deploy` again", host=self.name
        )

    def standing(self, lineage: str) -> Standing:
        """Return what the backend says it has, or why it cannot be asked."""
        try:
            answer = self.ask("current", lineage, 0)
        except HostError as error:
            return self.unheard(error)
        if not answer.ok:
            return Standing(self.name, reached=False, why=answer.why)
        return Standing(
            self.name, reached=True, current=answer.current, generations=dict(answer.generations)
        )

    def _unreached(self, stderr: str) -> UnreachableError:
        error = ssh.ssh_reason(self.name, stderr)
        if "SSH host key" not in error.message:
            return error
        # Here it was pinned by a deploy, and not by somebody who connected by hand.
        why = f"{error.why}: if it was reinstalled, `certsync deploy` again"
        return UnreachableError(why, host=self.name)

    def unheard(self, error: HostError) -> Standing:
        """Return the standing of a backend that could not be asked."""
        return Standing(
            self.name,
            reached=False,
            why=error.why,
            refuses_key=isinstance(error, KeyRefusedError),
        )

    def push(self, outbox: Path) -> None:
        """Send the outbox's files to a replica's inbox with rsync.

        Raises:
            HostError: it did not arrive.
        """
        self._rsync([outbox / name for name in receiver.FILES], "inbox")

    def give_tickets(self, outbox: Path) -> None:
        """Have a replica use the session ticket keys in the outbox.

        Raises:
            HostError: they did not arrive, or it does not take them.
        """
        self._rsync([outbox / name for name in receiver.TICKET_KEYS], TICKETS)
        answer = self._answer(TICKETS)
        if answer.is_older:
            raise HostError(OLDER, BRING_NEWER, host=self.name)
        if not answer.ok:
            raise HostError(answer.why, host=self.name)

    def _rsync(self, files: Sequence[Path], module: str) -> None:
        argv = [
            # The modification time says nothing about a key's content, so it is always sent.
            "rsync", "--ignore-times", "--no-s", "-e", " ".join(self._ssh()),
            *map(str, files),
            f"{_bracketed(self.machine.private_address)}::{module}/",
        ]  # fmt: skip
        done = process.run(argv, seconds=RECEIVE_SECONDS, user=PUSHING_USER)
        if done.status in RSYNC_LOST_CONNECTION:
            raise self._unreached(done.stderr)
        if UNKNOWN_MODULE in done.stderr:
            raise HostError(OLDER, BRING_NEWER, host=self.name)
        if done.status != 0:
            raise HostError(f"rsync failed ({done.status}): {done.error_summary}", host=self.name)

    def finish(self) -> None:
        """Say that nobody is talked to any more, not in a conversation that begins just now."""
        self._is_over = True

    def close_stdin(self) -> None:
        """Say that nothing more will be asked, and do not wait for the connection's end."""
        if self._conversation is not None:
            self._conversation.close_stdin()

    def close(self, seconds: float = 5) -> process.Completed:
        """End the conversation and the connection; return how they ended.

        They are ended where that takes longer than ``seconds``.
        """
        conversation, self._conversation = self._conversation, None
        self._has_answered = False
        return (
            conversation.end(seconds) if conversation is not None else process.Completed(0, "", "")
        )

    def _ssh(self) -> list[str]:
        # What rsync starts finds the conversation's connection by the same path.
        return [
            "ssh", "-F", "none", "-i", str(PUSH_HOME / "id_ed25519"),
            "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
            "-o", f"UserKnownHostsFile={PUSH_HOME / 'known_hosts'}",
            "-o", "GlobalKnownHostsFile=none", "-o", "StrictHostKeyChecking=yes",
            "-o", "UpdateHostKeys=no", "-o", f"ConnectTimeout={ssh.CONNECT_SECONDS}",
            "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3",
            "-o", f"KexAlgorithms=^{ssh.KEX}", "-o", "PreferredAuthentications=publickey",
            "-o", f"ControlPath={PUSH_RUNTIME}/ssh/{os.getpid()}-%C",
            "-l", receiver.RECEIVING_USER, "-p", str(self.machine.ssh_port),
        ]  # fmt: skip


def backends(fleet: Fleet, hosts: Iterable[Machine]) -> list[Backend]:
    """Return the receivers of the issuer, which comes first, and of these hosts."""
    issuer = Backend(fleet.issuer, local=True)
    replicas = [machine for machine in hosts if machine != fleet.issuer]
    return [issuer, *(Backend(machine, local=False) for machine in replicas)]


@contextmanager
def connected(
    fleet: Fleet, hosts: Iterable[Machine], *, end_seconds: float = 5
) -> Iterator[list[Backend]]:
    """Have these hosts' receivers to talk to; no conversation outlives the block.

    ``end_seconds``: how long each may take to end by itself; 0 where none was asked to do anything.
    """
    open_runtime()
    among = backends(fleet, hosts)
    try:
        yield among
    finally:
        for one in among:
            one.finish()
            one.close_stdin()
        for one in among:
            one.close(end_seconds)


def each(
    work: Callable[[Backend], Result], among: Sequence[Backend]
) -> list[tuple[Backend, Result | HostError]]:
    """Return what ``work`` gives for each backend, many at once; one's failure is its own."""

    def guarded(backend: Backend) -> Result | HostError:
        try:
            return work(backend)
        except HostError as error:
            return error

    pool = ThreadPoolExecutor(parallel.AT_ONCE)
    try:
        return list(zip(among, pool.map(guarded, among), strict=True))
    finally:
        # Who interrupts a run does not wait for answers: `connected` ends those who owe them.
        pool.shutdown(wait=False, cancel_futures=True)


def standings(lineage: str, among: Sequence[Backend]) -> list[Standing]:
    """Return what each backend says it has, many asked at once."""
    found = each(lambda one: one.standing(lineage), among)
    return [
        answer if isinstance(answer, Standing) else backend.unheard(answer)
        for backend, answer in found
    ]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
