"""The renewal run on the issuer: by cron, or by a systemd timer where the fleet file says so."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand, deploy, operation
from pyinfra.operations import files

from certsync import templates
from certsync.fleet import Fleet
from certsync.options import Scheduler
from deploy.facts import Lines
from deploy.operations import ran_when, written

PROGRAM = "/usr/local/lib/certsync/renew"
CRON = "/etc/cron.d/certsync"
UNIT = "certsync-renew"
UNITS = "/etc/systemd/system"


@deploy("Issuer: renewal")
def scheduled(fleet: Fleet) -> None:
    """Have the renewal run started every hour, by one of the two and never by both."""
    text = (templates.road() / "templates/renewal/renew").read_text()
    written(name="What starts a run", path=PROGRAM, content=text, mode="755")
    if fleet.renewal.scheduler is Scheduler.CRON:
        _without_timer()
        text = templates.render_renewal("cron.j2", fleet)
        written(name="Renewal from cron", path=CRON, content=text)
        return
    units = [
        written(
            name=f"{UNIT}.{kind}",
            path=f"{UNITS}/{UNIT}.{kind}",
            content=templates.render_renewal(f"{UNIT}.{kind}.j2", fleet),
        )
        for kind in ("service", "timer")
    ]
    ran_when(
        name="systemd reads them",
        command=f"systemctl daemon-reload && systemctl reenable -q {UNIT}.timer "
        f"&& systemctl restart {UNIT}.timer",
        needed=lambda: any(unit.changed for unit in units) or not _timer_runs(),
    )
    files.file(name="No renewal from cron", path=CRON, present=False)


def _timer_runs() -> bool:
    script = f"systemctl is-enabled -q {UNIT}.timer && systemctl is-active {UNIT}.timer"
    return host.get_fact(Lines, script=script) == ["active"]


def _without_timer() -> None:
    no_timer(name="No renewal from a timer")


@operation()
def no_timer() -> Generator[Any, None, None]:
    """Have no renewal timer."""
    if not host.get_fact(Lines, script=f"ls {UNITS}/{UNIT}.timer"):
        host.noop("no renewal timer")
        return
    yield StringCommand(f"systemctl disable -q --now {UNIT}.timer")
    yield StringCommand(f"rm -f {UNITS}/{UNIT}.timer {UNITS}/{UNIT}.service")
    yield StringCommand("systemctl daemon-reload")
