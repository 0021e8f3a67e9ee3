"""Push generations to replicas and talk to their receivers, over one SSH connection each.

ssh and rsync run as an unprivileged user that can read the outbox and the push key, but write
nothing: a server can try to read its rsync client's files (CVE-2024-12086).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from certsync.issuer.replicas import push_key
from certsync.issuer.replicas.answer import Answer, parsed
from certsync.issuer.replicas.rollout import Standing
from certsync.model.errors import HostError, KeyRefusedError, UnreachableError
from certsync.model.fleet import Machine
from certsync.model.generation import number_text
from certsync.model.paths import PUSH_HOME, PUSH_RUNTIME, PUSHING_USER, RECEIVER
from certsync.programs import receiver
from certsync.system import process, ssh, ssh_errors

RECEIVE_SECONDS = 90
"""How long a push or an answer may take; less than a receiver waits for the next line."""

TICKETS = "tickets"
"""The rsync module for session ticket keys, and the verb that activates them."""

OLDER = "its receiver is from an older certsync"
BRING_NEWER = "update its receiver: certsync deploy FLEET"
UNKNOWN_MODULE = f"Unknown module '{TICKETS}'"
"""rsync's error for a module missing from the replica's configuration (clientserver.c)."""

SSH_FAILED = 255
RSYNC_LOST_CONNECTION = (12, 30, SSH_FAILED)
"""rsync(1)'s exit values for a lost or timed-out connection, and ssh(1)'s own."""


@dataclass
class Backend:
    """A backend's receiver: the issuer's own as a local process, a replica's over SSH.

    The first question starts it and its connection; `close` ends both.
    """

    machine: Machine
    local: bool
    clock_off: timedelta = timedelta(0)
    """How far this machine's clock is ahead of the time that the run goes by."""

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
            HostError: the backend cannot be reached, or its answer is not a receiver's.
        """
        return self._answer(f"{verb} {lineage} {number_text(number)}")

    def _answer(self, line: str) -> Answer:
        reply = self._reply(line)
        if not reply and self._has_answered:
            # It timed out while the other backends were busy: start it again.
            self.close()
            reply = self._reply(line)
        answer = parsed(reply)
        if answer is None:
            raise self._nonsense(reply)
        self._has_answered = True
        return answer

    def _reply(self, line: str) -> str:
        try:
            conversation = self._conversation
            if conversation is None:
                self._conversation = conversation = self._start()
            if self._is_over:
                # The run was interrupted while connecting: do not wait.
                self.close()
                return ""
            return conversation.ask(line, RECEIVE_SECONDS)
        except HostError as error:
            raise HostError(error.why, error.hint, host=self.name) from None

    def _start(self) -> process.Conversation:
        if self.local:
            off = ["clock-off", str(self.clock_off.total_seconds())] if self.clock_off else []
            return process.Conversation([RECEIVER, *off])
        argv = [*self._ssh(), "-o", "ControlMaster=yes", self.machine.private_address]
        return process.Conversation([*argv, "certsync-receiver"], user=PUSHING_USER)

    def _nonsense(self, reply: str) -> HostError:
        done = self.close()
        if not self.local and not reply and done.status == SSH_FAILED:
            return self._unreached(done.stderr)
        words = process.printable(reply) or done.error_summary or str(done.status)
        return HostError(
            f"no receiver answers: {words}", "run `certsync deploy` again", host=self.name
        )

    def standing(self, lineage: str) -> Standing:
        """Return what the backend says it has, or why it could not be asked."""
        try:
            answer = self.ask("current", lineage, 0)
        except HostError as error:
            return self.unheard(error)
        if not answer.ok:
            return Standing(self.name, reached=False, why=answer.why)
        return Standing(
            self.name,
            reached=True,
            current=answer.current,
            generations=dict(answer.generations),
            epoch=answer.epoch,
        )

    def _unreached(self, stderr: str) -> UnreachableError:
        error = ssh_errors.reason(self.name, stderr)
        if isinstance(error, KeyRefusedError) and (why := push_key.finding()):
            # Not the replica's refusal: it was offered no key.
            return UnreachableError(why, host=self.name)
        if "SSH host key" not in error.message:
            return error
        # Here the key was pinned by a deploy, not by connecting once by hand.
        why = f"{error.why}: run `certsync deploy` again if it was reinstalled"
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
            HostError: the transfer failed.
        """
        self._rsync([outbox / name for name in receiver.FILES], "inbox")

    def give_tickets(self, outbox: Path) -> None:
        """Push the session ticket keys in the outbox to a replica, and activate them.

        Raises:
            HostError: the transfer failed, or the replica refuses them.
        """
        self._rsync([outbox / name for name in receiver.TICKET_KEYS], TICKETS)
        answer = self._answer(TICKETS)
        if answer.is_older:
            raise HostError(OLDER, BRING_NEWER, host=self.name)
        if not answer.ok:
            raise HostError(answer.why, host=self.name)

    def _rsync(self, files: Sequence[Path], module: str) -> None:
        argv = [
            # Always sent: equal size and modification time do not mean equal content.
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
        """Start no new conversation; one that is just connecting asks nothing."""
        self._is_over = True

    def close_stdin(self) -> None:
        """Tell the receiver that no more questions follow; do not wait for the connection."""
        if self._conversation is not None:
            self._conversation.close_stdin()

    def close(self, seconds: float = 5) -> process.Completed:
        """End the conversation and the connection; return how they ended.

        They are terminated if that takes longer than ``seconds``.
        """
        conversation, self._conversation = self._conversation, None
        self._has_answered = False
        return (
            conversation.end(seconds) if conversation is not None else process.Completed(0, "", "")
        )

    def _ssh(self) -> list[str]:
        # rsync's ssh uses the conversation's connection, because the ControlPath is the same.
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


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
