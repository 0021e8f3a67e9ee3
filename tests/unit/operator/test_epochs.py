"""A deploy stops where the issuer was replaced, and where a host belongs to another fleet."""

from __future__ import annotations

from certsync.model.epoch import Epoch
from certsync.operator.hosts import epochs
from certsync.operator.hosts.survey import Entry, Survey
from tests.unit.fake_fleet import fleet

FLEET = fleet()
OURS, OTHER = "f1" * 16, "0e" * 16
ISSUER, REPLICA = FLEET.issuer_name, FLEET.replicas[0].name


def issuer(number: int) -> Survey:
    return Survey(entries={epochs.MARKER: Entry("f", text=f"# ours\n{Epoch(number, OURS)}\n")})


def replica(number: int, of: str = OURS) -> Survey:
    return Survey(entries={epochs.KEYS: Entry("f", text=f"# ours\n# {Epoch(number, of)}\nkey\n")})


def test_a_fleet_whose_hosts_agree_goes_on() -> None:
    for own, accepted in ((3, 3), (3, 2)):
        assert epochs.objections(FLEET, {ISSUER: issuer(own), REPLICA: replica(accepted)}) == []
    for surveys in ({}, {ISSUER: Survey()}, {REPLICA: replica(3)}, {ISSUER: issuer(1)}):
        assert epochs.objections(FLEET, surveys) == []


def test_an_issuer_that_was_replaced_since_is_named_with_both_ways_out() -> None:
    [found] = epochs.objections(FLEET, {ISSUER: issuer(1), REPLICA: replica(2)})
    assert found.host == ISSUER
    assert found.text == (
        f"its epoch as the issuer is 1, but {REPLICA} accepts the issuer of epoch 2"
    )
    assert "pull the newer one" in found.hint
    assert f"certsync promote FLEET {ISSUER}" in found.hint


def test_a_host_of_another_fleet_is_named() -> None:
    [found] = epochs.objections(FLEET, {ISSUER: issuer(1), REPLICA: replica(9, OTHER)})
    assert (found.host, found.text) == (REPLICA, epochs.OTHER_FLEET)
    assert "remove-backend" in found.hint


def test_a_promotion_is_later_than_what_replicas_accept_and_the_old_issuer_had() -> None:
    new = Survey(machine="a" * 64)
    others = {"old": issuer(4), REPLICA: replica(3)}
    assert epochs.of_issuer(FLEET, new, others, promoting=True) == Epoch(5, OURS)
    first = epochs.of_issuer(FLEET, new)
    assert first.number == 1
    assert first == epochs.of_issuer(FLEET, new)
