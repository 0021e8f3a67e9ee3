"""After a renewal run: send messages, write metrics, ping the heartbeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from certsync.issuer.monitoring import alerts, heartbeat, notification, prometheus, textfile
from certsync.issuer.run import Session
from certsync.issuer.state import LineageState, State
from certsync.model import codec
from certsync.model.errors import CertsyncError, LaterError, NewerSchemaError
from certsync.model.fleet import Fleet
from certsync.model.proof import Proof


@dataclass(frozen=True)
class Ended:
    """How a run ended for one lineage."""

    lineage: str
    error: CertsyncError | None
    proofs: list[Proof]


def afterwards(
    session: Session, fleet: Fleet, runs: Sequence[Ended], error: CertsyncError | None
) -> None:
    """Report a run's end, with ``error`` or without. Failures to report do not fail the run."""
    now, tell = session.now, session.tell
    state = session.memory.state_or_nothing
    if lacking := notification.lacking(fleet, session.store):
        tell(f"warning: {lacking}")
    for each in runs:
        _alert(session, fleet, each)
    if fleet.metrics.folder:
        found = [readings(each, state, now, error) for each in runs]
        if why := textfile.write(fleet.metrics.folder, prometheus.text(*found)):
            tell(f"warning: {why}")
    if fleet.notify.heartbeat_url and error is None:
        why = heartbeat.ping(fleet.notify.heartbeat_url)
        if why:
            tell(f"warning: {why}")


def _alert(session: Session, fleet: Fleet, run: Ended) -> None:
    # State from a newer version cannot be read or written: people are notified in every run.
    state = session.memory.state_or_nothing
    seen = observed(run, state.lineage(run.lineage), session.now)
    own, others = list[Any](), list[Any]()
    # Alerts of lineages that left the fleet are dropped: no run would ever close them.
    existing = {each.name for each in fleet.lineages}
    for each in state.alerts:
        lineage = each.get("lineage", run.lineage) if isinstance(each, dict) else run.lineage
        if lineage == run.lineage:
            own.append(each)
        elif lineage in existing:
            others.append(each)
    news = alerts.judge(alerts.read(own), seen, fleet.notify.events)
    warn = session.tell
    sent = notification.send(news.messages, session.store, lambda text: warn(f"warning: {text}"))
    after = [{**codec.plain(each), "lineage": run.lineage} for each in news.after(sent)]
    kept = (*others, *after)
    if kept != tuple(state.alerts) and not isinstance(run.error, NewerSchemaError):
        session.memory.keep(replace(state, alerts=kept))


def observed(run: Ended, known: LineageState, now: datetime) -> alerts.Observed:
    """Return what people may have to be notified of."""
    behind = {name: each.behind_since for name, each in known.backends.items()}
    return alerts.Observed(
        lineage=run.lineage,
        at=now,
        error=run.error.message if run.error else "",
        hint=run.error.hint if run.error else "",
        later=isinstance(run.error, LaterError),
        backends=behind or None,
        not_before=known.not_before,
        not_after=known.not_after,
        challenge_looked_at=known.challenge_looked_at,
        challenge_missed_since=known.challenge_missed_since,
        challenge_misses=known.challenge_misses,
    )


def readings(
    run: Ended, state: State, now: datetime, error: CertsyncError | None
) -> prometheus.Readings:
    """Return the values for monitoring."""
    known = state.lineage(run.lineage)
    return prometheus.Readings(
        lineage=run.lineage,
        at=now,
        proofs=tuple(run.proofs),
        generation=int(known.generation) if known.generation else None,
        last_run=now,
        last_success=state.last_success if error else now,
        exit_status=error.exit_status if error else 0,
        failed_tries=known.tries.count,
        next_renewal=known.next_renewal,
        challenge_reachable=not known.challenge_misses if known.challenge_looked_at else None,
    )
