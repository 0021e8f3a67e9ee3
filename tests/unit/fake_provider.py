"""A provider's balancer in memory, with a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from certsync.operator.balancer.managed.errors import ManagedError
from certsync.operator.balancer.managed.port import (
    Ability,
    Admit,
    Change,
    Drain,
    DropRule,
    Member,
    SetCheck,
    SetRule,
    State,
)

FLEET = {f"web-{each}": f"10.0.0.{each}" for each in range(1, 51)}
NOTHING = State(None)
ABLE = Ability(shared_pool=True, drains=True, proxy=("v1", "v2"))


@dataclass
class Time:
    now: float = 1000
    waits: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.waits.append(seconds)
        self.now += seconds


@dataclass
class Balancer:
    """A provider's balancer, which carries out one change a call."""

    time: Time
    state: State = NOTHING
    ability: Ability = ABLE
    asked: list[Change] = field(default_factory=list)
    reads: int = 0
    before_read: list[ManagedError | None] = field(default_factory=list)
    """What reading fails with, one after the other."""

    before: list[ManagedError | None] = field(default_factory=list)
    """What a call fails with instead of being carried out, one after the other."""

    after: list[ManagedError | None] = field(default_factory=list)
    """The same, once it was carried out."""

    seconds: float = 0
    """How long it is busy with a change."""

    says: bool = True
    """Whether it says that it is busy."""

    shows: bool = False
    """Whether it shows a change while it is still busy with it."""

    undo: Callable[[State], State] | None = None
    """Another writer, after each change."""

    refuses: Mapping[str, ManagedError] = field(default_factory=dict)
    """What admitting some addresses fails with."""

    strays: tuple[str, ...] = ()
    """Backends that cannot be members."""

    _becomes: tuple[float, State] | None = None

    def read(self) -> State:
        self.reads += 1
        if self.before_read and (error := self.before_read.pop(0)):
            raise error
        if self._becomes and self.time.now >= self._becomes[0]:
            self.state, self._becomes = self._becomes[1], None
        if self._becomes and self.says:
            shown = self._becomes[1] if self.shows else self.state
            return replace(shown, busy="it is updating")
        return self.state

    def misfits(self, backends: Mapping[str, str]) -> dict[str, str]:
        return {name: "it is in another network" for name in self.strays if name in backends}

    def apply(self, changes: Sequence[Change]) -> None:
        assert not self.says or not self._becomes, "it is busy"
        self.asked.append(changes[0])
        if isinstance(changes[0], Admit) and changes[0].address in self.refuses:
            raise self.refuses[changes[0].address]
        if self.before and (error := self.before.pop(0)):
            raise error
        made = done(self.state, changes[0])
        if self.undo:
            made = self.undo(made)
        if self.seconds:
            self._becomes = (self.time.now + self.seconds, made)
        else:
            self.state = made
        if self.after and (error := self.after.pop(0)):
            raise error


def done(state: State, change: Change) -> State:
    if isinstance(change, SetRule):
        return replace(state, rule=change.rule)
    if isinstance(change, SetCheck):
        return replace(state, check=change.check)
    if isinstance(change, DropRule):
        return replace(state, rule=None)
    if isinstance(change, Admit):
        others = [each for each in state.members if each.address != change.address]
        return replace(state, members=(*others, Member(change.address, change.name)))
    others = [each for each in state.members if each != change.member]
    if isinstance(change, Drain):
        others.append(replace(change.member, takes=False))
    return replace(state, members=tuple(others))
