"""Monitoring of the renewal runs: the issuer's record of them, for people. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from certsync.model.answers import PastRun, Proven
from certsync.model.finding import Finding
from certsync.model.fleet import Fleet, Lineage

OVERDUE = 3
"""A missing run is a finding after so many hours, and so many intervals between runs."""

PUT_OFF = 75
PATIENCE = timedelta(days=1)
"""How long runs may be postponed before it is a finding."""

AHEAD = timedelta(minutes=5)

SHOWN = 5
"""How many runs of the history are shown."""


def findings(proven: Proven, fleet: Fleet, now: datetime) -> list[Finding]:
    """Return what is wrong with the renewal runs; empty: they run and succeed."""
    runs = proven.runs
    found = []
    last = runs.get("renew")
    known = [run for verb, run in runs.items() if verb in ("renew", "issue", "replicate")]
    # A time in the future comes from a wrong clock, and must not hide that nothing runs.
    moments = [run.at for run in known]
    newest = max((at for at in moments if at <= now + AHEAD), default=None)
    if future := [at for at in moments if at > now + AHEAD]:
        found.append(
            f"a run is recorded for {max(future):%Y-%m-%d %H:%M} UTC: its clock is or was ahead"
        )
    limit = timedelta(hours=max(OVERDUE, OVERDUE * fleet.renewal.every_hours))
    if newest is not None and now - newest > limit:
        what = f"the last one was {age(now - newest)} ago" if last else "none has run yet"
        found.append(
            f"no renewal run for over {limit / timedelta(hours=1):.0f} hours, "
            f"{what}: see journalctl -t certsync there"
        )
    # What failed then has been done since, by a deploy or by hand.
    is_past = last is not None and any(
        run.exit == 0 and last.at < run.at <= now + AHEAD for run in known
    )
    if last and not is_past and _counts(last, proven.last_success, now):
        found.append(f"renewal run of {_short(last.at)} UTC: {last.error}")
    if proven.unwritable:
        found.append(f"{proven.unwritable}: nothing can be ordered or recorded there")
    if proven.challenge:
        found.append(f"a challenge would not reach the issuer: {proven.challenge}")
    return [Finding(fleet.issuer_name, text) for text in found]


def _counts(last: PastRun, last_success: datetime | None, now: datetime) -> bool:
    """Return whether the last run is a finding: a failure, or postponed for too long."""
    if last.exit != PUT_OFF:
        return bool(last.exit)
    return last_success is None or now - last_success > PATIENCE


def coming(proven: Proven, fleet: Fleet) -> list[str]:
    """Return when each lineage is renewed next, as text, where that is known."""
    return [
        f"next renewal{_of(fleet, each)} after {_short(renewal.moment)} UTC: {renewal.why}"
        for each in fleet.lineages
        if (renewal := proven.renewals.get(each.name))
    ]


def _of(fleet: Fleet, lineage: Lineage) -> str:
    """Return the lineage's name for a line, if the fleet has several."""
    return f" of {lineage.name}" if fleet.has_several else ""


def last_run(proven: Proven, now: datetime) -> str:
    """Return how long ago the last hourly run was and how it ended; empty: there was none."""
    run = proven.runs.get("renew")
    if run is None:
        return ""
    ended = "all is well" if run.exit == 0 else f"exit status {run.exit}"
    return f"last hourly run {age(now - run.at)} ago: {ended}"


def history(proven: Proven, fleet: Fleet) -> list[str]:
    """Return the history of renewals for people, line by line."""
    lines = []
    for each in fleet.lineages:
        seconds = proven.mixed_seconds.get(each.name)
        if seconds is not None:
            lines.append(
                f"the last rollout{_of(fleet, each)} served two generations side by side for "
                f"{seconds:.1f} s"
            )
    runs = [run for run in proven.history if run.did or run.error][-SHOWN:]
    return lines + [f"{_short(run.at)} UTC  {run.verb}: {_summary(run)}" for run in runs]


def _summary(run: PastRun) -> str:
    parts = [*run.did, run.error]
    return "; ".join(part for part in parts if part)


def age(span: timedelta) -> str:
    """Return a duration for people."""
    hours = span / timedelta(hours=1)
    if hours < 1:
        return f"{span / timedelta(minutes=1):.0f} min"
    return f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"


def _short(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
