"""`certsync adopt`: certbot's certificate becomes the fleet's first generation, without an order.

It is a deploy whose fourth phase takes over instead of ordering. When every backend is proven, one
line of certbot's own renewal file has it no longer renew that lineage.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from certsync.model import certbot, paths
from certsync.model.certbot import Mention
from certsync.model.errors import HostError, RefusedError, RolloutError, StoreError
from certsync.model.fleet import Fleet, Lineage, Machine
from certsync.model.generation import Manifest
from certsync.operator.deployment import execute, operations
from certsync.operator.deployment.plan import Plan, Step
from certsync.operator.deployment.request import TAKE_OVER, DeployRequest, Options
from certsync.operator.fleet_file import FleetFile, opened
from certsync.operator.hosts import fleet_lock
from certsync.programs import command
from certsync.system import console, parallel, ssh
from certsync.system.process import Completed

NO_ORDER = (operations.ORDER,)
LAST_PHASE = "last: certbot's own renewal"


@dataclass(frozen=True)
class Seen:
    """What is on the issuer, read over the operator's SSH; no key is among it."""

    files: dict[str, str]
    """Path below certbot's folder to text."""

    kept: tuple[Manifest, ...]


def plan(path: Path, options: Options, now: datetime) -> Plan:
    """Return what adopting would do; nothing is changed.

    Raises:
        StoreError: there is nothing to take over; why, and what to do instead.
        RefusedError: the fleet has several lineages; or as a deploy.
        FleetFileError, HostError: as a deploy.
    """
    file = opened(path)
    fleet = file.fleet
    lineage = only_lineage(fleet, path)
    seen = _look(fleet, lineage, now)
    found = execute.dry_run(_request(file, options), fleet, NO_ORDER)
    renewal = seen.files[_renewal(lineage)]
    if certbot.not_renewed(renewal) != renewal:
        what = f"write {certbot.OFF} into {certbot.renewal_file(lineage.name)}"
        step = Step(LAST_PHASE, fleet.issuer_name, what, "that every backend is proven")
        found += Plan((step,))
    _tell_mentions(fleet, lineage)
    return found


def adopt(path: Path, options: Options, now: Callable[[], datetime], done: list[Step]) -> None:
    """Take over, deploy, and have certbot no longer renew that lineage.

    Raises:
        StoreError: there is nothing to take over; nothing was changed.
        RefusedError: the fleet has several lineages; or as a deploy.
        FleetFileError, LockHeldError, RolloutError: as a deploy.
    """
    file = opened(path)
    fleet = file.fleet
    lineage = only_lineage(fleet, path)
    with fleet_lock.held(fleet, "adopt") as token:
        _look(fleet, lineage, now())
        executed = execute.run(_request(file, options), fleet, token, done)
        # It looks at every backend itself before it changes anything.
        retired = None if executed.failures else _retire(fleet, token)
    if retired is not None and retired.stdout:
        console.result(retired.stdout.rstrip("\n"))
        what = f"write {certbot.OFF} into {certbot.renewal_file(lineage.name)}"
        done.append(Step(LAST_PHASE, fleet.issuer_name, what))
    _tell_mentions(fleet, lineage)
    execute.report_outcome(fleet, executed, execute.wait_until_settled(file, now))
    if retired is not None and retired.status != 0:
        told = retired.error_summary.removeprefix("error: ").partition("; hint: ")
        raise RolloutError(f"{fleet.issuer_name}: {told[0]}", told[2])


def only_lineage(fleet: Fleet, path: Path) -> Lineage:
    """Return the lineage of a fleet that has no other, so that all of it gets its certificate.

    Raises:
        RefusedError: it has several lineages; nothing was changed.
    """
    if not fleet.has_several:
        return fleet.lineages[0]
    raise RefusedError(
        f"{path} has more lineages than {fleet.name}, and adopt takes over one certificate, "
        "without an order for the others; nothing was changed",
        "adopt first, without the tables [lineages.NAME]; then write them, and certsync deploy "
        f"{shlex.quote(str(path))} orders what is missing",
    )


def _request(file: FleetFile, options: Options) -> DeployRequest:
    return DeployRequest(file, replace(options, certificate=TAKE_OVER))


def _look(fleet: Fleet, lineage: Lineage, now: datetime) -> Seen:
    """Refuse what cannot be taken over before anything is changed anywhere."""
    script = command("certbot_files.sh", certbot.HOME, lineage.name)
    done = ssh.on(fleet.issuer, fleet.known_hosts, script)
    seen = read(done.stdout)
    place = f"live/{lineage.name}/"
    if f"{place}fullchain.pem" not in seen.files:
        there = [name.split("/")[1] for name in seen.files if name.startswith("live/")]
        raise certbot.missing(lineage.name, there)
    if _renewal(lineage) not in seen.files:
        raise StoreError(
            f"{fleet.issuer_name}: {certbot.renewal_file(lineage.name)} is not there, so "
            "which CA the certificate is from is not known",
            "certbot certificates shows what it has",
        )
    pems = {name.removeprefix(place): text for name, text in seen.files.items()}
    public = certbot.read(lineage.name, pems, seen.files[_renewal(lineage)])
    if not certbot.is_taken(public, seen.kept):
        certbot.refuse_unfit(fleet, lineage, public, now)
    return seen


def read(output: str) -> Seen:
    """Return what `certbot_files.sh` printed; a damaged manifest, or a placeholder's, is none."""
    files, kept = {}, []
    for line in output.splitlines():
        name, _, encoded = line.partition(" ")
        try:
            content = base64.b64decode(encoded, validate=True)
        except ValueError:
            continue
        if name != "manifest":
            files[name] = content.decode(errors="replace")
            continue
        try:
            kept.append(Manifest.from_json(content, name))
        except StoreError:
            continue
    return Seen(files, tuple(kept))


def _renewal(lineage: Lineage) -> str:
    return f"renewal/{lineage.name}.conf"


def _retire(fleet: Fleet, token: str) -> Completed:
    command = f"{paths.CERTSYNC} retire-certbot --lock-token {shlex.quote(token)}"
    return ssh.on(fleet.issuer, fleet.known_hosts, command)


def _tell_mentions(fleet: Fleet, lineage: Lineage) -> None:
    """Tell where nginx still reads certbot's files: those lines are not ours to edit."""

    def ask(machine: Machine) -> list[Mention]:
        try:
            done = ssh.on(machine, fleet.known_hosts, certbot.MENTIONS)
        except HostError as error:
            console.warn(error.message)
            return []
        return certbot.mentions(machine.name, done.stdout)

    found = [each for one in parallel.each(ask, fleet.backends) for each in one]
    if not found:
        return
    console.warn("nginx reads files of certbot's, which go stale:")
    for each in found:
        console.tell(f"  {each.host}: {each.place}: {each.text}")
    console.tell(f"hint: write `include snippets/ssl-{lineage.name}.conf;` instead of them")
