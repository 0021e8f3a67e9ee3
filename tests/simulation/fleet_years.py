"""A fleet's years, with faults by a seed, and what must hold in every step of them."""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from unittest.mock import patch

from cryptography import x509

from certsync.issuer.ca import ordering
from certsync.issuer.commands import renew
from certsync.issuer.memory import Memory
from certsync.issuer.replicas import replicate
from certsync.issuer.run import Run, Session
from certsync.issuer.schedule import renewal_moment
from certsync.model.certificate import fingerprint
from certsync.model.errors import CertsyncError
from tests.simulation.conversation import Killed
from tests.simulation.faults import DAY, FAULTS, HOUR, End, Fault
from tests.simulation.host import NOBODYS, Host
from tests.simulation.mutations import MUTATIONS
from tests.simulation.world import World

YEARS_OF_A_FLEET = 2
HEALED = 3 * DAY
"""How long all that a backend needs may have been well before it has to serve."""

REFUSED_A_DAY = 4
"""Two machines may both take themselves for the issuer, and each tries once a day."""

QUIET, BUSY = DAY, 6 * HOUR
"""Between two runs of a fleet where nothing is wrong, and of one where something was lately."""


@dataclass
class Seen:
    """What an observer knows of one backend."""

    healthy_since: datetime | None = None
    had_its_chance: bool = False
    """Whether it could have had the next certificate, in the last part of this one's time."""

    chain: tuple[bytes, ...] = NOBODYS
    number: int = 0
    end: datetime | None = None
    begin: datetime | None = None


@dataclass
class Story:
    """What has happened in one fleet."""

    seed: int
    violations: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    orders: int = 0
    log: list[str] = field(default_factory=list)


class FleetYears:
    """One fleet, for as long as is asked for."""

    def __init__(self, seed: int, folder: Path) -> None:
        chance = random.Random(seed)  # it has to be repeated
        lifetime = chance.choice([90, 45, 45, 6]) * DAY
        self.world = World(seed, folder, backends=chance.choice([1, 2, 3, 3, 5]), lifetime=lifetime)
        self.story = Story(seed)
        self.seen = {name: Seen() for name in self.world.hosts}
        self.open: list[tuple[datetime, Fault, End]] = []
        self.calm_since = self.world.now
        self.restless = chance.choice([5, 15, 40])
        """Days between two faults, on average."""

        self.revoked_since: dict[str, datetime] = {}
        self.orders_seen = 0
        self.stopped_at = self.world.now - DAY * 365

    def live(self, years: float) -> Story:
        """Let the years pass."""
        world = self.world
        end = world.now + years * 365 * DAY
        with world.inside():
            self._first_deploy()
            while world.now < end and not self.story.violations:
                busy = bool(self.open) or world.now - self.calm_since < 4 * DAY
                world.now += BUSY if busy else QUIET
                self._faults(BUSY if busy else QUIET)
                self._hour()
                self._look()
        self.story.orders = len(world.ca.orders)
        return self.story

    def _session(self, host: Host) -> Session:
        world = self.world
        world.at_work = host
        now = world.now + world.issuer_skew
        session = Session(host.store, Memory(host.store), now, self._told)
        session.memory.put_broken_aside()
        return session

    def _told(self, text: str) -> None:
        self.story.log.append(f"{self.world.now:%Y-%m-%d %H:%M} {text}")

    def _first_deploy(self) -> None:
        with self.world.issuer.at_work(self.world.now, local=True):
            self._session(self.world.issuer).each(_order)
            replicate.replicate_all(self._session(self.world.issuer))

    def _hour(self) -> None:
        for host in self.world.would_be_issuers:
            self._run(host)

    def _run(self, host: Host) -> None:
        self.story.runs += 1
        try:
            with host.at_work(self.world.now + self.world.issuer_skew, local=True):
                renew.renew(self._session(host))
        except CertsyncError as error:
            self._told(f"error: {error.message}")
        except Killed as killed:
            self._told(f"killed before {killed}")
            self.world.kill_at = None
        except OSError as error:
            # The session writes down how it ended, and its disk may not take that.
            self._told(f"error: {error}")

    def _faults(self, step: timedelta) -> None:
        world = self.world
        for each in [each for each in self.open if each[0] <= world.now]:
            each[2]()
            self.open.remove(each)
            self.calm_since = world.now
            self._told(f"-- {each[1].name} ends")
        if world.random.random() < step / (self.restless * DAY):
            fault = world.random.choice(FAULTS)
            if len(world.hosts) == 1 and fault.begin.__qualname__.startswith("of_hosts"):
                return
            if fault.name in {each[1].name for each in self.open} or (
                "CA" in fault.name and any("CA" in each[1].name for each in self.open)
            ):
                return
            if len(world.hosts) == 1 and fault.name in ("claims", "archive emptied"):
                return
            lasting = fault.longest * world.random.random() ** 2
            self._told(f"-- {fault.name} begins, for {lasting}")
            self.open.append((world.now + lasting, fault, fault.begin(world)))
            self.story.faults[fault.name] += 1

    # What must hold

    def _look(self) -> None:
        world = self.world
        ca_well = world.ca.would_issue(world.now) and world.ca.mood.window is None
        issuer_well = (
            world.issuer.is_healthy and ca_well and world.names_lead_here
            and world.challenge_comes_through and world.resolver_answers
            and not world.disk_full and world.kill_at is None
        )  # fmt: skip
        for host in world.hosts.values():
            self._look_at(host, self.seen[host.name], well=issuer_well and world.is_well(host))
        self._orders()

    def _look_at(self, host: Host, seen: Seen, *, well: bool) -> None:
        now = self.world.now
        if not well:
            seen.healthy_since = None
        elif seen.healthy_since is None:
            seen.healthy_since = now
        healed = seen.healthy_since is not None and now - seen.healthy_since >= HEALED
        if host.served != seen.chain:
            self._another(host, seen)
        if seen.begin is None or seen.end is None:
            if healed and host.up:
                self._violated(f"{host.name} serves nothing, and all was well for {HEALED}")
            return
        # Half-way from when it is due to its end the guards end: `schedule.last_chance`.
        due = renewal_moment(seen.begin, seen.end)
        if healed and now >= due + (seen.end - due) / 2 + HEALED:
            seen.had_its_chance = True
        if self._stopped_lately():
            # Nothing is brought to anybody, but the guards end before what the issuer serves does.
            healed = False
            seen.had_its_chance &= host.served_number == self.world.issuer.served_number
        if host.up and now >= seen.end and (healed or seen.had_its_chance):
            self._violated(f"{host.name} serves generation {seen.number:04}, which has expired")
        if healed:
            self._healed(host)

    def _stopped_lately(self) -> bool:
        world = self.world
        if world.has_broken_record or world.issuer_skew or world.is_of_an_earlier_epoch:
            self.stopped_at = world.now
        return self.world.now - self.stopped_at < HEALED

    def _healed(self, host: Host) -> None:
        """Look at a backend for which all has been well for a while."""
        number, wanted = host.served_number, self.world.issuer.served_number
        if number != wanted:
            self._violated(
                f"{host.name} serves {number:04}, the issuer {wanted:04}, and all was well for "
                f"{HEALED}"
            )
        if self._revoked_long_ago(host):
            self._violated(f"{host.name} serves what the CA has revoked")

    def _revoked_long_ago(self, host: Host) -> bool:
        leaf = fingerprint(host.served[0])
        since = self.revoked_since.setdefault(leaf, self.world.now)
        if leaf not in self.world.ca.revoked:
            del self.revoked_since[leaf]
            return False
        return self.world.now - since >= HEALED

    def _another(self, host: Host, seen: Seen) -> None:
        seen.had_its_chance = False
        if host.served == NOBODYS:
            seen.chain, seen.begin, seen.end = host.served, None, None
            return
        leaf = x509.load_der_x509_certificate(host.served[0])
        begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        issuer = self.world.issuer.name
        lost = {(host.name, seen.number), (issuer, seen.number)} & self.world.damaged
        was_reverted = host.name in self.world.reverted
        if was_reverted:
            # Its disk went back, and what it serves with it: that is not ours to prevent.
            self.world.reverted.discard(host.name)
        elif seen.begin is not None and begin < seen.begin and not lost and host.claims is None:
            self._violated(f"{host.name} went back from {seen.number:04} to {host.served_number}")
        if not begin <= self.world.now < end and not was_reverted:
            self._violated(f"{host.name} began to serve {host.served_number:04}, not valid now")
        seen.chain, seen.begin, seen.end = host.served, begin, end
        seen.number = host.served_number

    def _orders(self) -> None:
        for order in self.world.ca.orders[self.orders_seen :]:
            if order.by != order.issuer:
                self._violated(f"{order.by} orders, and {order.issuer} is the issuer")
        self.orders_seen = len(self.world.ca.orders)
        day = [each for each in self.world.ca.refused_by_limit if self.world.now - each < DAY]
        if len(day) > REFUSED_A_DAY:
            self._violated(f"{len(day)} orders beyond the CA's limit within a day")

    def _violated(self, what: str) -> None:
        self._told(f"!! {what}")
        self.story.violations.append(what)


def _order(run: Run) -> None:
    ordering.issue(run)


def lived(seed: int, years: float = YEARS_OF_A_FLEET, without: str = "") -> Story:
    """Return the story of the fleet of a seed; ``without`` one of `MUTATIONS`."""
    folder = Path(tempfile.mkdtemp(prefix="certsync-fleet-", dir="/dev/shm"))  # memory
    try:
        with contextlib.ExitStack() as stack:
            for place, name, instead in MUTATIONS[without] if without else ():
                stack.enter_context(patch.object(place, name, instead))
            return FleetYears(seed, folder).live(years)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
