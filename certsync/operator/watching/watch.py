"""Who watches the renewal: what the issuer's memory of its runs says to a person. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from certsync.model.answers import PastRun, Proven
from certsync.model.finding import Finding
from certsync.model.fleet import Fleet, Lineage

OVERDUE = 3
"""Hours, and as many times the time between two runs, after which a missing run is a finding."""

PUT_OFF = 75
PATIENCE = timedelta(days=1)
"""How long runs may be put off without being a finding."""

AHEAD = timedelta(minutes=5)

SHOWN = 5
"""Runs of the history that a person is shown."""


def findings(told: Proven, fleet: Fleet, now: datetime) -> list[Finding]:
    """Return what is wrong with the renewal runs; empty: they run, and end well."""
    runs = told.runs
    found = []
    last = runs.get("renew")
    known = [run for verb, run in runs.items() if verb in ("renew", "issue", "replicate")]
    # A moment in the future was noted by a wrong clock, and must not hide that nothing runs.
    moments = [run.at for run in known]
    newest = max((at for at in moments if at <= now + AHEAD), default=None)
    if future := [at for at in moments if at > now + AHEAD]:
        found.append(
            f"a run is noted for {max(future):%Y-%m-%d %H:%M} UTC: its clock is or was ahead"
        )
    limit = timedelta(hours=max(OVERDUE, OVERDUE * fleet.renewal.every_hours))
    if newest is not None and now - newest > limit:
        what = f"the last one was {age(now - newest)} ago" if last else "none has run yet"
        found.append(
            f"no renewal run for over {limit / timedelta(hours=1):.0f} hours, "
            f"{what}: journalctl -t certsync there says why"
        )
    if last and _counts(last, told.last_success, now):
        found.append(f"renewal run of {_short(last.at)} UTC: {last.error}")
    return [Finding(fleet.issuer_name, text) for text in found]


def _counts(last: PastRun, last_success: datetime | None, now: datetime) -> bool:
    """Return whether the last run's end is a finding: a failure, or a pause that does not end."""
    if last.exit != PUT_OFF:
        return bool(last.exit)
    return last_success is None or now - last_success > PATIENCE


def coming(told: Proven, fleet: Fleet) -> list[str]:
    """Return when each lineage is renewed next, as a person reads it, as far as that is known."""
    return [
        f"next renewal{_of(fleet, each)} after {_short(renewal.moment)} UTC: {renewal.why}"
        for each in fleet.lineages
        if (renewal := told.renewals.get(each.name))
    ]


def _of(fleet: Fleet, lineage: Lineage) -> str:
    """Return whose a line is, where a fleet has several lineages."""
    return f" of {lineage.name}" if fleet.has_several else ""


def last_run(told: Proven, now: datetime) -> str:
    """Return how long ago the last hourly run was and how it ended; empty: there was none."""
    run = told.runs.get("renew")
    if run is None:
        return ""
    ended = "all is well" if run.exit == 0 else f"exit status {run.exit}"
    return f"last hourly run {age(now - run.at)} ago: {ended}"


def history(told: Proven, fleet: Fleet) -> list[str]:
    """Return the history of renewals for a person, line by line."""
    lines = []
    for each in fleet.lineages:
        seconds = told.mixed_seconds.get(each.name)
        if seconds is not None:
            lines.append(
                f"the last rollout{_of(fleet, each)} served two generations side by side for "
                f"{seconds:.1f} s"
            )
    runs = [run for run in told.history if run.did or run.error][-SHOWN:]
    return lines + [f"{_short(run.at)} UTC  {run.verb}: {_told(run)}" for run in runs]


def _told(run: PastRun) -> str:
    parts = [*run.did, run.error]
    return "; ".join(part for part in parts if part)


def age(span: timedelta) -> str:
    """Return a length of time as a person says it."""
    hours = span / timedelta(hours=1)
    if hours < 1:
        return f"{span / timedelta(minutes=1):.0f} min"
    return f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"


def _short(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
