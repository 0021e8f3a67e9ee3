"""What can go wrong in the world: each fault begins, lasts for a while, and ends."""

from __future__ import annotations

import random
import shutil
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from certsync.issuer.store import Store
from certsync.model.certificate import fingerprint
from certsync.operator.deployment.succession import Holding, objection_of_holdings
from certsync.programs import receiver
from tests.simulation.by_hand import compromised, nothing, rolled_back
from tests.simulation.ca import Mood
from tests.simulation.certificates import Nonsense
from tests.simulation.host import Host
from tests.simulation.world import CUT_OFF, NAMES, World

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
End = Callable[[], None]


@dataclass(frozen=True)
class Fault:
    """One kind of fault."""

    name: str
    begin: Callable[[World], End]
    """Begins it, and returns what ends it."""

    longest: timedelta = 20 * DAY


def some_replicas(world: World) -> list[Host]:
    """Return one replica, or several, or all."""
    replicas = [each for each in world.members if each is not world.issuer]
    return world.random.sample(replicas, world.random.randint(1, len(replicas)))


def of_hosts(**changes: Any) -> Callable[[World], End]:
    """Return how some replicas get these fields, and lose them again."""

    def begin(world: World) -> End:
        chosen = some_replicas(world)
        for host in chosen:
            for field, value in changes.items():
                setattr(host, field, value)

        def end() -> None:
            for host in chosen:
                for field in changes:
                    setattr(host, field, Host.__dataclass_fields__[field].default)

        return end

    return begin


def of_world(**changes: Any) -> Callable[[World], End]:
    """Return how the world gets these fields, and gets its own back."""

    def begin(world: World) -> End:
        before = {field: getattr(world, field) for field in changes}
        for field, value in changes.items():
            setattr(world, field, value)

        def end() -> None:
            for field, value in before.items():
                setattr(world, field, value)

        return end

    return begin


def of_ca(make: Callable[[random.Random, datetime], dict[str, Any]]) -> Callable[[World], End]:
    """Return how the CA gets into a mood, and out of it."""

    def begin(world: World) -> End:
        world.ca.mood = Mood(**make(world.random, world.now))

        def end() -> None:
            world.ca.mood = Mood()

        return end

    return begin


def windows(chance: random.Random) -> Any:
    """Return a renewal window that a CA may suggest, well-formed or not."""
    return chance.choice([
        {"start": "2040-01-01T00:00:00Z", "end": "9999-12-31T23:59:59Z"},
        {"start": "9999-12-31T00:00:00Z", "end": "9999-12-31T23:59:59Z"},
        {"start": "0001-01-01T00:00:00Z", "end": "0001-01-02T00:00:00Z"},
        {"start": "2040-05-01T00:00:00+23:59", "end": "2040-05-02T00:00:00-23:59"},
        {"start": "yesterday", "end": "tomorrow"}, {"start": 3}, [], "now", 17,
        lambda generation, now: {
            "start": (generation.not_before - HOUR).isoformat(), "end": now.isoformat(),
        },
        lambda generation, _now: {
            "start": (generation.not_after - HOUR).isoformat(),
            "end": generation.not_after.isoformat(),
        },
    ])  # fmt: skip


def claims(world: World) -> End:
    """Have replicas say what they like of themselves."""
    chosen = some_replicas(world)
    many: dict[str, Any] = {f"{number:04}": "ff" for number in range(1, 9999)}
    for host in chosen:
        said: list[dict[str, Any]] = [
            {"ok": True, "current": "9999", "generations": many},
            {"ok": True, "current": "9998", "generations": {"9998": "aa"}},
            {"ok": True, "current": f"{host.served_number + 1:04}",
             "generations": {f"{host.served_number + n:04}": "aa" for n in range(1, 5)}},
            {"ok": True}, {"ok": "yes"}, {"ok": False, "why": "no\x1b[2J", "code": "content"},
            {"ok": True, "current": "../../etc", "generations": {"x" * 4000: 1}},
        ]  # fmt: skip
        host.claims = world.random.choice(said)

    def end() -> None:
        for host in chosen:
            host.claims = None

    return end


def lost_live_link(world: World) -> End:
    """Remove the live link of a host."""
    host = world.random.choice(world.members)
    (host.folder / "etc/live" / NAMES[0]).unlink(missing_ok=True)
    return nothing


def damaged(world: World) -> End:
    """Cut a file of a generation off, on any host."""
    host = world.random.choice(world.members)
    folders = sorted((host.folder / "etc/archive" / NAMES[0]).glob("[0-9]" * 4))[1:]
    if folders:
        path = world.random.choice(folders) / world.random.choice(receiver.FILES)
        path.write_bytes(path.read_bytes()[: world.random.randint(0, 40)])
        world.damaged.add((host.name, int(path.parent.name)))
    return nothing


def emptied(world: World) -> End:
    """Remove all generations of a replica."""
    host = world.random.choice(some_replicas(world))
    for folder in (host.folder / "etc/archive" / NAMES[0]).glob("[0-9]" * 4):
        if folder.name != receiver.PLACEHOLDER:
            world.damaged.add((host.name, int(folder.name)))
            shutil.rmtree(folder)
    return nothing


def broken_state(world: World) -> End:
    """Cut the state file off."""
    path = world.issuer.store.state_file
    if path.exists():
        path.write_bytes(path.read_bytes()[: world.random.randint(0, 200)])
    return nothing


def broken_record(world: World) -> End:
    """Cut off a record of what must not go live again; somebody removes it in the end."""
    path = world.random.choice(world.records(world.issuer))
    path.write_text(CUT_OFF)

    def end() -> None:
        if path.exists() and path.read_text() == CUT_OFF:
            path.unlink()

    return end


def revoked(world: World) -> End:
    """Have the CA revoke what is live, without a word of ours."""
    issuer = world.issuer
    kept = Store(issuer.folder / "etc", issuer.folder / "state").kept(NAMES[0])
    if issuer.served_number in kept:
        world.ca.revoked.add(kept[issuer.served_number].manifest.fingerprint)
    return nothing


def restored(world: World) -> End:
    """Take a snapshot of the issuer's disk now, and put it back in the end."""
    issuer = world.issuer
    snapshot = Path(tempfile.mkdtemp(prefix="snapshot-", dir=world.folder))
    for each in ("etc", "state"):
        shutil.copytree(issuer.folder / each, snapshot / each, symlinks=True)

    def end() -> None:
        world.damaged.add((issuer.name, -len(world.damaged)))
        for each in ("etc", "state"):
            shutil.rmtree(issuer.folder / each)
            shutil.copytree(snapshot / each, issuer.folder / each, symlinks=True)
        shutil.rmtree(snapshot)
        world.reverted.add(issuer.name)
        # It knows of no mark that was made since; the CA knows what is revoked.
        world.forbidden &= world.ca.revoked
        issuer.reload()

    return end


def cloned(world: World) -> End:
    """Boot a copy of the issuer's disk beside it."""
    clone = Host(f"clone-{len(world.clones)}", world.folder / f"clone-{len(world.clones)}")
    for each in ("etc", "state"):
        shutil.copytree(
            world.issuer.folder / each, clone.folder / each, symlinks=True, dirs_exist_ok=True
        )
    world.clones.append(clone)

    def end() -> None:
        clone.up = False

    return end


def may_follow(host: Host, world: World) -> bool:
    """Return whether `certsync promote --old-is-dead` takes a host for the next issuer."""
    holdings = {}
    for each in world.members:
        if each.up and each.reachable and each is not world.issuer:
            live = each.folder / "etc/live" / NAMES[0]
            cert = live / "cert.pem"
            held = digest(cert) if cert.exists() and cert.stat().st_size else ""
            number = live.readlink().name if live.is_symlink() else ""
            holdings[each.name] = Holding(number, held, fingerprint(each.served[0]))
    return host.is_healthy and not objection_of_holdings(host.name, holdings)


def digest(cert: Path) -> str:
    """Return SHA-256 of a certificate's file, in hex; empty: it cannot be read."""
    try:
        return fingerprint(ssl.PEM_cert_to_DER_cert(cert.read_text()))
    except ValueError:
        return ""


def promoted(world: World) -> End:
    """Lose the issuer for a while, and make another backend the issuer meanwhile."""
    old = world.issuer
    others = [each for each in world.members if each is not old and may_follow(each, world)]
    if not others:
        return nothing
    old.up = False
    world.promote(world.random.choice(others).name)

    def end() -> None:
        old.up = True

    return end


def deployed(world: World) -> End:
    """Run a deploy."""
    world.deploy()
    return nothing


def killed(world: World) -> End:
    """End the engine before one of the next things that it does."""
    left = [world.random.randint(1, 60)]

    def kill(_what: str) -> bool:
        left[0] -= 1
        return left[0] == 0

    world.kill_at = kill

    def end() -> None:
        world.kill_at = None

    return end


PROBLEMS = (
    "badPublicKey", "badCSR", "rejectedIdentifier", "unauthorized", "caa", "rateLimited",
    "accountDoesNotExist", "serverInternal", "orderNotReady",
)  # fmt: skip

FAULTS = (
    Fault("disks full", of_hosts(full=True), 60 * DAY),
    Fault("clocks behind", of_hosts(skew=-400 * DAY), 60 * DAY),
    Fault("clocks ahead", of_hosts(skew=400 * DAY), 60 * DAY),
    Fault("push key refused", of_hosts(accepts_key=False), 60 * DAY),
    Fault("hosts off", of_hosts(up=False), 60 * DAY),
    Fault("hosts not reached", of_hosts(reachable=False), 60 * DAY),
    Fault("servers refuse everything", of_hosts(refuses_all=True), 60 * DAY),
    Fault("claims", claims, 60 * DAY),
    Fault("CA silent", of_ca(lambda *_: {"silent": True})),
    Fault("CA busy", of_ca(lambda chance, now: {
        "busy_until": chance.choice([now + HOUR, now + 300 * DAY, now.replace(year=9999, day=1)]),
    })),
    Fault("CA refuses orders", of_ca(lambda chance, _: {"refuses": chance.choice(PROBLEMS)})),
    Fault("CA refuses to sign", of_ca(lambda chance, _: {
        "refuses_to_sign": chance.choice(PROBLEMS),
    })),
    Fault("validation fails", of_ca(lambda *_: {"fails_validation": True})),
    Fault("CA signs nonsense", of_ca(lambda chance, _: {"nonsense": chance.choice([*Nonsense])})),
    Fault("renewal windows", of_ca(lambda chance, _: {"window": windows(chance)}), 200 * DAY),
    Fault("names lead elsewhere", of_world(names_lead_here=False)),
    Fault("challenges lost", of_world(challenge_comes_through=False)),
    Fault("resolver fails", of_world(resolver_answers=False), 60 * DAY),
    Fault("issuer's clock behind", of_world(issuer_skew=-100 * DAY), 60 * DAY),
    Fault("issuer's clock ahead", of_world(issuer_skew=100 * DAY), 60 * DAY),
    Fault("issuer's disk full", of_world(disk_full=True), 10 * DAY),
    Fault("live link lost", lost_live_link, HOUR),
    Fault("generation damaged", damaged, HOUR),
    Fault("archive emptied", emptied, HOUR),
    Fault("state cut off", broken_state, HOUR),
    Fault("record cut off", broken_record, 200 * DAY),
    Fault("revoked out of band", revoked, HOUR),
    Fault("killed", killed, DAY),
    Fault("issuer restored", restored, 30 * DAY),
    Fault("issuer cloned", cloned, 60 * DAY),
    Fault("another one promoted", promoted, 40 * DAY),
    Fault("rolled back", rolled_back, HOUR),
    Fault("backend compromised", compromised, 60 * DAY),
    Fault("deployed", deployed, HOUR),
    Fault("deployed again", deployed, HOUR),
)  # fmt: skip
