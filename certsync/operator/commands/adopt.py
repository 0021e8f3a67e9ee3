"""`certsync adopt`: certbot's certificate becomes the fleet's first generation, without an order.

A deploy whose fourth phase takes over the certificate instead of ordering one. Once every backend
is proven, one line in certbot's renewal file stops certbot from renewing that lineage.
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
from certsync.operator.deployment import conclusion, execute, operations
from certsync.operator.deployment.attached import deploying
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
    """What is on the issuer, read over the operator's SSH; no keys."""

    files: dict[str, str]
    """File contents by path below certbot's folder."""

    kept: tuple[Manifest, ...]


def plan(path: Path, options: Options, now: datetime) -> Plan:
    """Return what adopting would do; nothing is changed.

    Raises:
        StoreError: there is nothing to take over; the message says why and what to do.
        RefusedError: the fleet has several lineages, or see `deploy`.
        FleetFileError, HostError: see `deploy`.
    """
    file = opened(path)
    fleet = file.fleet
    lineage = only_lineage(fleet, path)
    seen = _look(fleet, lineage, now)
    found = execute.dry_run(_request(file, options), fleet, NO_ORDER, deploying(fleet, options))
    renewal = seen.files[_renewal(lineage)]
    if certbot.not_renewed(renewal) != renewal:
        what = f"write {certbot.OFF} into {certbot.renewal_file(lineage.name)}"
        step = Step(LAST_PHASE, fleet.issuer_name, what, "every backend being proven")
        found += Plan((step,))
    _warn_of_mentions(fleet, lineage)
    return found


def adopt(path: Path, options: Options, now: Callable[[], datetime], done: list[Step]) -> None:
    """Take over the certificate, deploy, and stop certbot from renewing that lineage.

    Raises:
        StoreError: there is nothing to take over; nothing was changed.
        RefusedError: the fleet has several lineages, or see `deploy`.
        FleetFileError, LockHeldError, RolloutError: see `deploy`.
    """
    file = opened(path)
    fleet = file.fleet
    lineage = only_lineage(fleet, path)
    attached = deploying(fleet, options)
    with fleet_lock.held(fleet, "adopt") as lock:
        _look(fleet, lineage, now())
        executed = execute.run(_request(file, options), fleet, [lock], done, attached)
        # retire-certbot probes every backend itself before it changes anything.
        retired = None if executed.failures else _retire(fleet, lock.token)
    if retired is not None and retired.stdout:
        console.result(retired.stdout.rstrip("\n"))
        what = f"write {certbot.OFF} into {certbot.renewal_file(lineage.name)}"
        done.append(Step(LAST_PHASE, fleet.issuer_name, what))
    _warn_of_mentions(fleet, lineage)
    conclusion.report_outcome(fleet, executed, execute.wait_until_settled(file, now))
    if retired is not None and retired.status != 0:
        why, _, hint = retired.error_summary.removeprefix("error: ").partition("; hint: ")
        raise RolloutError(f"{fleet.issuer_name}: {why}", hint)


def only_lineage(fleet: Fleet, path: Path) -> Lineage:
    """Return a fleet's only lineage.

    Raises:
        RefusedError: there are several; nothing was changed.
    """
    if not fleet.has_several:
        return fleet.lineages[0]
    raise RefusedError(
        f"{path} has lineages besides {fleet.name}, and adopt takes over one certificate only; "
        "nothing was changed",
        "adopt first without the [lineages.NAME] tables; then add them and run certsync deploy "
        f"{shlex.quote(str(path))}, which orders the missing certificates",
    )


def _request(file: FleetFile, options: Options) -> DeployRequest:
    return DeployRequest(file, replace(options, certificate=TAKE_OVER))


def _look(fleet: Fleet, lineage: Lineage, now: datetime) -> Seen:
    """Before any change, refuse a certificate that cannot be taken over."""
    script = command("certbot_files.sh", certbot.HOME, lineage.name)
    done = ssh.on(fleet.issuer, fleet.known_hosts, script)
    seen = read(done.stdout)
    place = f"live/{lineage.name}/"
    if f"{place}fullchain.pem" not in seen.files:
        there = [name.split("/")[1] for name in seen.files if name.startswith("live/")]
        raise certbot.missing(lineage.name, there)
    if _renewal(lineage) not in seen.files:
        raise StoreError(
            f"{fleet.issuer_name}: {certbot.renewal_file(lineage.name)} does not exist, so the "
            "certificate's CA is unknown",
            "`certbot certificates` lists what certbot has",
        )
    pems = {name.removeprefix(place): text for name, text in seen.files.items()}
    public = certbot.read(lineage.name, pems, seen.files[_renewal(lineage)])
    if not certbot.is_taken(public, seen.kept):
        certbot.refuse_unfit(fleet, lineage, public, now)
    return seen


def read(output: str) -> Seen:
    """Parse the output of `certbot_files.sh`; damaged and placeholder manifests are ignored."""
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


def _warn_of_mentions(fleet: Fleet, lineage: Lineage) -> None:
    """Report where nginx still reads certbot's files: we do not edit those lines."""

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
    console.warn("nginx still reads certbot's files, which are no longer renewed:")
    for each in found:
        console.tell(f"  {each.host}: {each.place}: {each.text}")
    console.tell(f"hint: replace them with `include snippets/ssl-{lineage.name}.conf;`")
