"""What the engine says to a simulated receiver, and how many are asked: one after the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certsync.issuer.replicas.answer import Answer, parsed
from certsync.issuer.replicas.backend import Backend
from certsync.model.errors import HostError, KeyRefusedError, UnreachableError
from certsync.system import process
from tests.simulation.host import Host

if TYPE_CHECKING:
    from tests.simulation.world import World


class Killed(BaseException):
    """The process is gone, as by SIGKILL or a power cut."""


@dataclass
class Conversation(Backend):
    """The way to one receiver; only the connection is simulated."""

    world: World = field(kw_only=True)
    host: Host = field(kw_only=True)

    def _require(self) -> None:
        if self.local:
            return
        if not self.host.up or not self.host.reachable:
            raise UnreachableError("connection timed out\x1b]0;", host=self.name)
        if not self.host.accepts_key or self.host.accepts_from != self.world.at_work.name:
            raise KeyRefusedError("permission denied (publickey)", host=self.name)

    def ask(self, verb: str, lineage: str, number: int) -> Answer:
        """Return what the receiver answers."""
        self._require()
        world = self.world
        if world.kill_at and world.kill_at(f"{verb} on {self.name}"):
            raise Killed(f"{verb} on {self.name}")
        clock = world.now + world.issuer_skew - self.clock_off if self.local else world.now
        told = self.host.answer(f"{verb} {lineage} {number:04}", clock, local=self.local)
        if verb == "activate" and told.get("ok"):
            by = world.at_work.name
            world.activations.append((world.now, by, self.host.name, number))
        answer = parsed(json.dumps(told))
        if answer is None:
            raise HostError(f"no receiver answers: {process.printable(str(told))}", host=self.name)
        return answer

    def push(self, outbox: Path) -> None:
        """Send files."""
        self._require()
        if self.host.full:
            raise HostError("rsync failed (11): No space left on device", host=self.name)
        self.host.receive(outbox)

    def close_stdin(self) -> None:
        """Do nothing: nobody waits."""


def each_in_turn(
    work: Callable[[Any], Any], among: Sequence[Any], _patience: object = None
) -> list[tuple[Any, Any]]:
    """Do what `receivers.each` does, one after the other."""
    found = []
    for one in among:
        try:
            found.append((one, work(one)))
        except HostError as error:
            found.append((one, error))
    return found


def each_at_once(
    work: Callable[[Any], Any], items: Sequence[Any], *_always: object
) -> list[tuple[Any, Any]]:
    """Do what `Patience.each` does where nobody is slow, one after the other."""
    return [(one, work(one)) for one in items]
