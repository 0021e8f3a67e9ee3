"""A fleet's years, with faults by a seed, and what must hold in every step of them."""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from unittest.mock import patch

from certsync.issuer.ca import ordering
from certsync.issuer.commands import renew
from certsync.issuer.memory import Memory
from certsync.issuer.replicas import replicate
from certsync.issuer.run import Run, Session
from certsync.model.errors import CertsyncError
from tests.simulation.conversation import Killed
from tests.simulation.faults import DAY, FAULTS, HOUR, End, Fault
from tests.simulation.host import Host
from tests.simulation.mutations import MUTATIONS
from tests.simulation.observer import Observer, Story
from tests.simulation.world import World

YEARS_OF_A_FLEET = 2
QUIET, BUSY = DAY, 8 * HOUR
"""Between two runs of a fleet where nothing is wrong, and of one where something was lately."""


class FleetYears:
    """One fleet, for as long as is asked for."""

    def __init__(self, seed: int, folder: Path) -> None:
        chance = random.Random(seed)  # it has to be repeated
        lifetime = chance.choice([90, 45, 45, 6]) * DAY
        self.world = World(seed, folder, backends=chance.choice([1, 2, 3, 3, 5]), lifetime=lifetime)
        self.story = Story(seed)
        self.open: list[tuple[datetime, Fault, End]] = []
        self.calm_since = self.world.now
        self.restless = chance.choice([5, 15, 40])
        """Days between two faults, on average."""

        self.observer = Observer(self.world, self.story)

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
                self.observer.look()
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
        self.story.told(self.world.now, text)

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
            self.world.kill_at, self.world.killed = None, self.world.now
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


def _order(run: Run) -> None:
    ordering.issue(run)


def lived(seed: int, years: float = YEARS_OF_A_FLEET, without: str = "") -> Story:
    """Return the story of the fleet of a seed; ``without`` one of `MUTATIONS`."""
    folder = Path(tempfile.mkdtemp(prefix="certsync-fleet-"))
    try:
        with contextlib.ExitStack() as stack:
            for place, name, instead in MUTATIONS[without] if without else ():
                stack.enter_context(patch.object(place, name, instead))
            return FleetYears(seed, folder).live(years)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
