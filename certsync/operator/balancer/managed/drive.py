"""Bring a provider's balancer to what is wanted: read, decide, change, wait, and read again.

What a call has done is only known from reading again. So a lost answer, a busy balancer or another
writer costs a round, and never a wrong change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from certsync.operator.balancer.managed import decide
from certsync.operator.balancer.managed.decide import Wanted
from certsync.operator.balancer.managed.errors import (
    BusyError,
    LostError,
    ManagedError,
    RefusedChangeError,
    TokenError,
    UnansweredError,
    UncertainError,
)
from certsync.operator.balancer.managed.port import Ability, Admit, Change, Provider, State

SPARE_CALLS = 10
"""How many changing calls more than twice the changes: so that one that is undone again and again
ends, even if the time allows more."""

PAUSE_SECONDS, LONGEST_PAUSE = 1.0, 30.0


@dataclass
class Clock:
    """The time, and how to wait; a test has its own."""

    now: Callable[[], float]
    sleep: Callable[[float], None]


@dataclass(frozen=True)
class Leave:
    """What somebody has allowed."""

    adopt: bool = False
    """To take over what is there already."""

    gap: bool = False
    """That new connections fail for a while."""


NO_LEAVE = Leave()


def drive(
    provider: Provider,
    wanted: Wanted,
    tell: Callable[[str], None],
    clock: Clock,
    seconds: float,
    leave: Leave = NO_LEAVE,
) -> State:
    """Make a balancer what is wanted, and return what it then has.

    ``tell`` gets each change in words once the balancer has it.

    Raises:
        RefusedChangeError: something there is somebody else's, or connections would fail for a
            while. The message says whether something was changed before.
        BusyError: it took no change within ``seconds``.
        ManagedError: the provider refuses, or it was not done within ``seconds``.
    """
    return _Drive(provider, wanted, tell, clock, leave, clock.now() + seconds, clock.now()).run()


@dataclass
class _Drive:
    provider: Provider
    wanted: Wanted
    tell: Callable[[str], None]
    clock: Clock
    leave: Leave
    end: float
    begun: float
    left: list[str] | None = None
    """What was to do by the last look, in words; None: there was no look yet."""

    calls: int = 0
    """Changing calls so far."""

    trouble: ManagedError | None = None
    """Why there is nothing new since the last progress."""

    pause: float = PAUSE_SECONDS
    sent: list[str] = field(default_factory=list)
    """What was to do when the last call was made; empty: that was looked at since."""

    refusal: ManagedError | None = None
    """What the provider said to the last call, if it refused."""

    def run(self) -> State:
        most = 0
        while True:
            state = self._look()
            if state is None:
                continue
            left = decide.changes(state, self.wanted, self.provider.ability)
            self._progress(decide.words(left, self.wanted.known))
            most = most or 2 * len(left) + SPARE_CALLS
            if not left and not state.busy:
                return state
            if state.busy:
                busy = BusyError(
                    f"the balancer is busy: {state.busy}", "run the same command again"
                )
                self._wait(busy)
            elif self.sent == self.left and self.sent:
                # The call was accepted, and nothing is to be seen of it: it takes time, or
                # something else undoes it. Both need another look later, not another call now.
                self.sent = []
                self._wait(self.trouble)
            elif self.clock.now() >= self.end or self.calls >= most:
                raise self._not_done()
            else:
                self._apply(left)

    def _look(self) -> State | None:
        """Return what it has; None: that could not be told, and may be asked again."""
        try:
            state = self.provider.read()
        except (BusyError, UnansweredError) as error:
            if self.left is None and not isinstance(error, BusyError):
                raise
            self._wait(error, error.seconds if isinstance(error, BusyError) else 0)
            return None
        self._refuse(state)
        return state

    def _progress(self, now: list[str]) -> None:
        """Compare with the last look: tell what is done since, or raise what was refused."""
        if self.left is not None and self.left != now:
            for each in self.left:
                if each not in now:
                    self.tell(each)
            self.trouble, self.pause, self.sent = None, PAUSE_SECONDS, []
        elif self.refusal:
            raise self.refusal
        self.left, self.refusal = now, None

    def _apply(self, left: Sequence[Change]) -> None:
        self.calls += 1
        try:
            self.provider.apply(left)
            self.sent = decide.words(left, self.wanted.known)
        except BusyError as error:
            self._wait(error, error.seconds)
        except UncertainError as error:
            self._wait(error)
        except (TokenError, LostError):
            raise
        except ManagedError as error:
            # Providers refuse what they have carried out, and a member that is gone cannot be
            # removed: only another look tells.
            self.refusal = error
            if isinstance(left[0], Admit):
                error.backend = left[0].name

    def _wait(self, trouble: ManagedError | None, seconds: float = 0) -> None:
        self.trouble = trouble
        rest = self.end - self.clock.now()
        if rest <= 0 or seconds > rest:
            raise self._not_done()
        self.clock.sleep(min(seconds or self.pause, rest))
        self.pause = min(self.pause * 2, LONGEST_PAUSE)

    def _not_done(self) -> ManagedError:
        to_do = f"not done yet: {'; '.join(self.left)}" if self.left else "not known to be done"
        if self.trouble:
            return type(self.trouble)(f"{self.trouble.message} ({to_do})", self.trouble.hint)
        took = self.clock.now() - self.begun
        return ManagedError(
            f"the balancer is not what it should be after {took:.0f} s ({to_do})",
            "does something else change it, such as Terraform or a cloud controller? Run the same "
            "command again",
        )

    def _refuse(self, state: State) -> None:
        so_far = "the balancer is not changed any further" if self.calls else "nothing was changed"
        why, hint = refusal(state, self.wanted, self.provider.ability, self.leave)
        if why:
            raise RefusedChangeError(f"{so_far}: {why}", hint)


def refusal(state: State, wanted: Wanted | None, ability: Ability, leave: Leave) -> tuple[str, str]:
    """Return why a balancer must not be changed, and what to try; empty: it may be.

    ``wanted`` None: nothing is to be changed now.
    """
    if wanted and (why := decide.impossible(wanted, ability)):
        return why, "see `certsync rules`"
    if state.obstacles:
        return "; ".join(state.obstacles), "put it right at the balancer, or use another balancer"
    if wanted and (found := decide.objections(state, wanted, adopt=leave.adopt)):
        hint = "put it right there, or take it over: certsync deploy FLEET --adopt-balancer"
        return "; ".join(found), hint
    gap = decide.gap(state, wanted, ability) if wanted else 0
    if gap and not leave.gap:
        why = (
            f"this provider closes port 443 for up to {gap} s while the target port or the PROXY "
            "protocol changes"
        )
        return why, "choose a quiet moment: certsync deploy FLEET --accept-gap"
    return "", ""
