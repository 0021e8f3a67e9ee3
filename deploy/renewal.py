"""The issuer's renewal run: started by cron, or by a systemd timer if the fleet file says so."""

from __future__ import annotations

from certsync.model.fleet import Fleet
from certsync.model.options import Scheduler
from certsync.model.paths import PROGRAMS, UNITS
from certsync.operator.hosts.survey import Survey
from certsync.operator.rendering import templates
from deploy import step
from deploy.step import Step, Steps

PROGRAM = f"{PROGRAMS}/renew"
CRON = "/etc/cron.d/certsync"
UNIT = "certsync-renew"
TIMER = f"{UNIT}.timer"


def scheduled(fleet: Fleet, seen: Survey) -> Steps:
    """Schedule the renewal run, with one of the two and never both."""
    text = (templates.road() / "templates/renewal/renew").read_text()
    yield step.file(seen, "Renewal program", PROGRAM, text, mode="755")
    if fleet.renewal.scheduler is Scheduler.CRON:
        yield no_timer(seen)
        yield step.file(
            seen, "Renewal from cron", CRON, lambda: templates.render_renewal("cron.j2", fleet)
        )
        return
    units = [_unit(fleet, kind, seen) for kind in ("service", "timer")]
    yield from units
    runs = seen.unit(TIMER).runs and not seen.unit(TIMER).is_outdated
    yield step.command(
        "systemd reload",
        f"systemctl daemon-reload && systemctl reenable -q {TIMER} && systemctl restart {TIMER}",
        needed=not runs or any(unit.script for unit in units),
    )
    yield step.absent(seen, "No renewal from cron", CRON)


def _unit(fleet: Fleet, kind: str, seen: Survey) -> Step:
    name = f"{UNIT}.{kind}"
    return step.file(
        seen, name, f"{UNITS}/{name}", lambda: templates.render_renewal(f"{name}.j2", fleet)
    )


def no_timer(seen: Survey) -> Step:
    """Remove the renewal timer."""
    timer, service = f"{UNITS}/{TIMER}", f"{UNITS}/{UNIT}.service"
    script = f"systemctl disable -q --now {TIMER}; rm -f {timer} {service}; systemctl daemon-reload"
    return step.command("No renewal from a timer", script, needed=seen.has(timer))
