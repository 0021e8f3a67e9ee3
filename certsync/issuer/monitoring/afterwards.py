"""After a renewal run: people, monitoring and whoever waits for a sign of life are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from certsync.issuer.monitoring import alerts, heartbeat, notification, prometheus, textfile
from certsync.issuer.state import Lineage, State
from certsync.issuer.store import Store
from certsync.model.errors import CertsyncError, LaterError, NewerSchemaError
from certsync.model.fleet import Fleet
from certsync.model.proof import Proof

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Ended:
    """How a run ended for one lineage."""

    store: Store
    error: CertsyncError | None
    proofs: list[Proof]


def afterwards(
    runs: Sequence[Ended], now: datetime, error: CertsyncError | None, tell: Tell
) -> None:
    """Tell of a run that has ended, with ``error`` or well. What cannot be told ends no run."""
    store = runs[0].store
    fleet = store.fleet()
    state = _recalled(store)
    if lacking := notification.lacking(fleet, store):
        tell(f"warning: {lacking}")
    for each in runs:
        _alert(each, now, tell)
    if fleet.metrics.folder:
        found = [readings(each.store.fleet(), state, now, error, each.proofs) for each in runs]
        if why := textfile.write(fleet.metrics.folder, prometheus.text(*found)):
            tell(f"warning: {why}")
    if fleet.notify.heartbeat_url and error is None:
        why = heartbeat.ping(fleet.notify.heartbeat_url)
        if why:
            tell(f"warning: {why}")


def _recalled(store: Store) -> State:
    try:
        return store.recall()
    except NewerSchemaError:
        # What is remembered cannot be read or written: people hear of it in every run.
        return State()


def _alert(run: Ended, now: datetime, tell: Tell) -> None:
    store, fleet, state = run.store, run.store.fleet(), _recalled(run.store)
    seen = observed(fleet, state.lineage(fleet.lineage), now, run.error)
    # Of before there were several lineages: the only one's.
    own, others = list[Any](), list[Any]()
    # Of one that was taken out of the fleet no run would ever see that it is over.
    there = {each.lineage for each in replace(store, lineage="").fleet().lineages}
    for each in state.alerts:
        lineage = each.get("lineage", fleet.lineage) if isinstance(each, dict) else fleet.lineage
        if lineage == fleet.lineage:
            own.append(each)
        elif lineage in there:
            others.append(each)
    news = alerts.judge(alerts.read(own), seen, fleet.notify.events)
    sent = notification.send(news.messages, store, lambda text: tell(f"warning: {text}"))
    after = [{**each.to_json(), "lineage": fleet.lineage} for each in news.after(sent)]
    kept = (*others, *after)
    if kept != tuple(state.alerts) and not isinstance(run.error, NewerSchemaError):
        store.remember(replace(state, alerts=kept))


def observed(
    fleet: Fleet, known: Lineage, now: datetime, error: CertsyncError | None
) -> alerts.Observed:
    """Return what people may have to be told of."""
    behind = {name: _moment(each.behind_since) for name, each in known.backends.items()}
    return alerts.Observed(
        lineage=fleet.lineage,
        at=now,
        error=error.message if error else "",
        hint=error.hint if error else "",
        later=isinstance(error, LaterError),
        backends=behind or None,
        not_before=_moment(known.not_before),
        not_after=_moment(known.not_after),
    )


def readings(
    fleet: Fleet, state: State, now: datetime, error: CertsyncError | None, proofs: list[Proof]
) -> prometheus.Readings:
    """Return what monitoring reads."""
    known = state.lineage(fleet.lineage)
    return prometheus.Readings(
        lineage=fleet.lineage,
        at=now,
        proofs=tuple(proofs),
        generation=int(known.generation) if known.generation else None,
        last_run=now,
        last_success=_moment(state.last_success) if error else now,
        exit_status=error.exit_status if error else 0,
        failed_tries=known.tries.count,
        next_renewal=_moment(known.next_renewal),
    )


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
