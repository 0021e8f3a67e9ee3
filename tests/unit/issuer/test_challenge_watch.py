"""A daily look at a challenge's path, though no order is due."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from certsync.issuer import canary, challenge_watch
from certsync.issuer.canary import Sighting
from certsync.issuer.memory import Memory
from certsync.issuer.monitoring.afterwards import Ended, observed, readings
from certsync.issuer.replicas import prove
from certsync.issuer.state import LineageState
from tests.unit.fake_fleet import NAME, NOW
from tests.unit.issuer.fake_disk import Heard, disk, seen

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HERE = Sighting("backend-01", "203.0.113.11", public=False, reached=True, seen=True, answer="")
LOST = Sighting(
    "backend-02", "203.0.113.12", public=False, reached=True, seen=False, answer="HTTP 404"
)
TEXT = "backend-02 (203.0.113.12): answers HTTP 404"


@pytest.mark.parametrize(
    ("known", "due"),
    [
        pytest.param(LineageState(), True, id="never looked at"),
        pytest.param(LineageState(challenge_looked_at=NOW - 23 * HOUR), False, id="today"),
        pytest.param(LineageState(challenge_looked_at=NOW - DAY), True, id="yesterday"),
        pytest.param(LineageState(challenge_looked_at=NOW + HOUR), True, id="a wrong clock"),
        pytest.param(
            LineageState(challenge_looked_at=NOW - HOUR, challenge_misses=(TEXT,)), True,
            id="it was lost",
        ),
    ],
)  # fmt: skip
def test_it_is_looked_at_once_a_day_and_each_hour_while_it_is_lost(
    known: LineageState, *, due: bool
) -> None:
    assert challenge_watch.is_due(known, NOW) is due


def test_a_lost_challenge_is_reported_and_remembered_until_it_gets_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, heard = disk(tmp_path), Heard()
    sightings = [HERE, LOST]
    monkeypatch.setattr(canary, "look", lambda *_: list(sightings))
    for after in (0 * HOUR, HOUR):
        challenge_watch.look(heard.run(seen(store), NOW + after))
    told = f"warning: no order is due, but a challenge would not reach the issuer: {TEXT}"
    assert heard.told == [told, told]
    state = Memory(store).state
    known = state.lineage(NAME)
    assert (known.challenge_misses, known.challenge_missed_since) == ((TEXT,), NOW)
    ended = Ended(NAME, None, [])
    assert observed(ended, known, NOW).challenge_missed_since == NOW
    assert readings(ended, state, NOW, None).challenge_reachable is False
    shown = prove.prove([seen(store)], Memory(store), NOW, proven=lambda: {NAME: []})
    assert shown.to_json()["challenge"] == TEXT
    sightings.remove(LOST)
    challenge_watch.look(heard.run(seen(store), NOW + 2 * HOUR))
    known = Memory(store).of(NAME)
    assert (known.challenge_misses, known.challenge_missed_since) == ((), None)
    assert readings(ended, Memory(store).state, NOW, None).challenge_reachable is True
