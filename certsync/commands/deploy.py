"""`certsync deploy`: the whole road, seen while it is walked, and a table at its end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from certsync import console, fleet_lock, progress
from certsync.commands import status
from certsync.commands.status import Status
from certsync.errors import CertsyncError, HostError, LaterError, RefusedError, RolloutError
from certsync.fleet import Fleet
from certsync.fleet_file import read_fleet
from certsync.progress import Outcome
from certsync.pyinfra_run import Run

HINT = "the rest of the fleet is in service; when this is mended, run the same command again"
SETTLING_SECONDS = 10.0
"""A member that was down has to pass two checks; the balancer looks every second."""

ISSUER_STEPS = {"Order the certificate": "issue", "Replicate the certificate": "replicate"}
"""Operation of deploy/road.py to the verb that it runs on the issuer."""


@dataclass(frozen=True)
class Options:
    """What a person can ask of a deploy."""

    dry_run: bool = False
    adopt_nginx: bool = False
    adopt_haproxy: bool = False

    def data(self) -> dict[str, str]:
        """Return them as pyinfra's host data."""
        wishes = {"adopt_nginx": self.adopt_nginx, "adopt_haproxy": self.adopt_haproxy}
        return {key: "true" for key, value in wishes.items() if value}


def deploy(path: Path, options: Options, now: Callable[[], datetime]) -> None:
    """Walk the road for a fleet file, printing as it goes and the table at its end.

    Raises:
        FleetFileError: it has mistakes.
        RefusedError: a host is somebody else's; nothing was changed.
        LockHeldError: another run changes the fleet.
        LaterError: the road is open up to the certificate; the same command continues.
        RolloutError: a host could not be deployed, or does not serve the certificate.
    """
    fleet = read_fleet(path)
    if options.dry_run:
        _rehearse(fleet, path, options)
        return
    with ExitStack() as stack:
        token = stack.enter_context(fleet_lock.held(fleet, "deploy"))
        run = Run(path, dry=False, data=options.data(), token=token)
        stack.callback(run.stop)
        outcome = progress.follow(fleet, run)
    _conclude(fleet, outcome, run, _settled(path, now))


def _settled(path: Path, now: Callable[[], datetime]) -> Status:
    """Return the status, once no member that is healed still waits for the balancer's checks."""
    end = monotonic() + SETTLING_SECONDS
    while True:
        shown = status.status(path, now())
        if not shown.awaited or monotonic() > end:
            return shown
        sleep(0.5)


def _rehearse(fleet: Fleet, path: Path, options: Options) -> None:
    run = Run(path, dry=True, data=options.data(), token="")
    outcome = progress.follow(fleet, run)
    _raise_what_stopped(run, outcome)
    console.result("\n".join(progress.changes_announced(run.output)))
    console.tell("dry run: nothing was changed, and nothing was asked of the CA")
    if outcome.unreached:
        raise HostError(f"not reached over SSH: {', '.join(outcome.unreached)}")


def _conclude(fleet: Fleet, outcome: Outcome, run: Run, shown: Status) -> None:
    _raise_what_stopped(run, outcome)
    console.result(shown.text())
    console.tell("1 change" if outcome.changed == 1 else f"{outcome.changed} changes")
    noted = _noted(fleet, outcome, shown)
    if noted.get("exit") == LaterError.exit_status:
        raise LaterError(str(noted["error"]), str(noted["hint"]))
    failed = [f"{name}: {_why(run, name)}" for name in outcome.unreached]
    failed += [f"{name}: {what}: {_why(run, name)}" for name, what in outcome.failed.items()]
    if failed or shown.findings:
        raise RolloutError(
            "; ".join([*failed, *shown.findings]),
            noted.get("hint") or HINT,
        )
    if fleet.passthrough:
        page = "lb.html" if fleet.site.test_page else ""
        console.result(f"open https://{fleet.lineage}/{page}")
    else:
        console.result("passthrough is off by the fleet file: certsync passthrough on FLEET")


def _raise_what_stopped(run: Run, outcome: Outcome) -> None:
    if outcome.refused:
        raise RefusedError(f"nothing was changed on any host:\n{outcome.refused}")
    if run.status != 0 and not outcome.failed and not outcome.unreached:
        words = [line for line in run.output if line.strip()]
        raise CertsyncError(f"pyinfra stopped: {' '.join(words[-6:])[-800:]}")


def _noted(fleet: Fleet, outcome: Outcome, shown: Status) -> dict[str, Any]:
    """Return how the issuer noted its own failed step, exit status, words and hint."""
    verb = ISSUER_STEPS.get(outcome.failed.get(fleet.issuer_name, ""), "")
    noted: dict[str, Any] = shown.state.get("runs", {}).get(verb, {})
    return noted


def _why(run: Run, name: str) -> str:
    told = run.said_of(name)
    errors = [line.removeprefix("error: ") for line in told if line.startswith("error: ")]
    return (errors or told or ["no reason was given"])[0]
