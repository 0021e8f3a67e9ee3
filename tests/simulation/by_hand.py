"""What people do with a fleet: roll back, remove a compromised backend, bring it back."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import fields, replace

from certsync.issuer import replacement
from certsync.issuer.commands import rollback
from certsync.issuer.memory import Memory
from certsync.issuer.run import Session
from certsync.model.errors import CertsyncError
from tests.simulation.conversation import Killed
from tests.simulation.host import NOBODYS, Host
from tests.simulation.world import NAMES, World

End = Callable[[], None]


def nothing() -> None:
    """End what is over at once."""


def on_issuer(world: World, work: Callable[[Session], None]) -> None:
    """Run a command on the issuer, however it ends."""
    issuer, clock = world.issuer, world.now + world.issuer_skew
    world.at_work = issuer
    session = Session(issuer.store, Memory(issuer.store), clock, lambda _: None)
    with contextlib.suppress(CertsyncError, OSError, Killed), issuer.at_work(clock, local=True):
        work(session)


def rolled_back(world: World) -> End:
    """Roll back, and know from then on what must not be served again."""
    if world.issuer.up:
        on_issuer(world, lambda session: rollback.rollback(session.only()))
        with contextlib.suppress(CertsyncError):
            withdrawn = world.issuer.store.withdrawn(NAMES[0])
            world.forbid(number for number in withdrawn if number != world.issuer.served_number)
    return nothing


def compromised(world: World) -> End:
    """Remove a backend that somebody has broken into.

    In the end it comes back, installed anew, but not before all that it may hold was replaced.
    """
    members = [world.hosts[each.name] for each in world.fleet.backends]
    others = [
        each for each in members if each is not world.issuer and not each.store.fleet_file.exists()
    ]
    if len(members) < 3 or not others or not world.issuer.up:
        return nothing
    host = world.random.choice(others)
    machine = next(each for each in world.fleet.backends if each.name == host.name)
    left = tuple(each for each in world.fleet.backends if each != machine)
    world.fleet = replace(world.fleet, backends=left)
    world.deploy()
    on_issuer(world, lambda session: replacement.everywhere(session, host.name))
    with contextlib.suppress(CertsyncError):
        world.forbid(world.issuer.store.compromised(NAMES[0]).numbers)

    def end() -> None:
        if host.name in marked(world):
            return
        install_anew(host, world)
        world.fleet = replace(world.fleet, backends=(*world.fleet.backends, machine))
        world.deploy()

    return end


def marked(world: World) -> list[str]:
    """Return the backends whose keys are not replaced yet; all, if nobody can tell."""
    try:
        return [each.backend for each in world.issuer.store.compromised(NAMES[0]).open]
    except CertsyncError:
        return [*world.hosts]


def install_anew(host: Host, world: World) -> None:
    """Give a host an empty disk, and nothing that is wrong."""
    for each in ("etc", "inbox", "state"):
        shutil.rmtree(host.folder / each)
        (host.folder / each).mkdir()
    for field in fields(Host):
        if field.name not in ("name", "folder", "verified", "tested"):
            setattr(host, field.name, field.default)
    host.accepts_from = ""
    host.accepted_key.unlink(missing_ok=True)
    world.placeholder(host)
    assert host.served == NOBODYS
    world.reverted.add(host.name)
