"""A number that replicas have used for a different certificate is given up, and never endlessly."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from certsync.issuer.replicas import renumber
from certsync.issuer.replicas.rollout import Standing
from certsync.model.proof import Proof, Verdict
from certsync.programs import receiver
from tests.unit.fake_fleet import NAME, NOW, manifest
from tests.unit.issuer.fake_disk import Heard, disk, keep, seen, situation

DAY = timedelta(days=1)
FOUND = situation(manifest(1), manifest(2))
OWN = {"0002": f"{2:064x}"}


def standing(name: str = "backend-02", **generations: str) -> Standing:
    """Return a replica that has these generations."""
    numbers = {key.removeprefix("n"): value for key, value in generations.items()}
    return Standing(name, reached=True, generations=numbers)


def test_another_generation_of_the_same_number_collides_and_nothing_else_does() -> None:
    assert renumber.colliding(FOUND, 2, [standing(n0002="ff")]) == ["backend-02"]
    fine = [standing(), standing(n0002=OWN["0002"]), standing(n0003="ff")]
    assert renumber.colliding(FOUND, 2, fine) == []
    silent = Standing("backend-02", reached=False, generations={"0002": "ff"})
    assert renumber.colliding(FOUND, 2, [silent]) == []


def test_a_number_is_given_up_once_a_day_whatever_a_replica_claims() -> None:
    assert renumber.is_due(FOUND, 2, [], None, NOW)
    assert not renumber.is_due(FOUND, 2, [], NOW - DAY / 2, NOW)
    assert renumber.is_due(FOUND, 2, [], NOW - DAY, NOW)
    # One in the future was written while the clock was wrong.
    assert renumber.is_due(FOUND, 2, [], NOW + DAY, NOW)


def test_what_is_older_than_what_is_served_gets_no_higher_number() -> None:
    newer = Proof(
        "backend-02", Verdict.BEHIND, "", "ff", "", "it serves another", NOW + timedelta(hours=1)
    )
    assert not renumber.is_due(FOUND, 2, [newer], None, NOW)


def test_the_same_certificate_is_kept_under_the_next_free_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = disk(tmp_path)
    monkeypatch.setattr(receiver, "HOME", store.root)
    keep(store, tmp_path, 1)
    heard = Heard()
    run = heard.run(seen(store))
    taken = standing(n0001="ff", n0002="ee")
    renumber.if_used_otherwise(run, [taken], [])
    assert (run.seen.target, run.seen.numbers) == (3, [1, 3])
    before, after = (run.seen.kept[number] for number in (1, 3))
    assert before.manifest.files == after.manifest.files
    assert before.fullchain == after.fullchain
    assert run.known.renumbered_at == NOW
    [told] = heard.told
    assert told.endswith("a different certificate: generation 0001 is kept as 0003, too")
    renumber.if_used_otherwise(run, [standing(n0003="ff")], [])
    assert run.seen.target == 3
    receiver.verify_sums(store.archive(NAME) / "0003")
