"""Nothing old goes live over something newer, and nothing that the CA has revoked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from certsync import proving, receiver, revocation
from certsync.certificate import parse_chain
from certsync.commands import issue, outdated
from certsync.errors import OutdatedError
from certsync.proof import Proof, Verdict
from certsync.revocation import Finding
from certsync.rollout import Plan, Standing
from certsync.store import Store, generation_files, sums
from tests.unit.fake_fleet import NAME, NOW, fleet, manifest
from tests.unit.test_receiver import make_pair

DAY = timedelta(days=1)
OWN = Standing("backend-01", reached=True, current="0002", generations={"0002": "a"})
NEWER = Standing("backend-02", reached=True, current="0005", generations={"0005": "b"})
SERVES_NEWER = Proof("backend-02", Verdict.BEHIND, "", "ff", "", "", NOW + DAY)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return an issuer's store with generation 0002 live."""
    monkeypatch.setattr(receiver, "HOME", tmp_path / "etc")
    receiver.make_folder(tmp_path / "etc")
    store = Store(tmp_path / "etc", tmp_path / "state")
    store.state.mkdir()
    store.fleet_file.write_text(json.dumps(fleet().to_json(), default=str))
    make_pair(tmp_path)
    key = (tmp_path / "privkey.pem").read_bytes()
    certificate = parse_chain((tmp_path / "cert.pem").read_text())
    store.keep(manifest(2, files=sums(generation_files(key, certificate))), key, certificate)
    receiver.point(NAME, "0002")
    return store


class World:
    """What the backends serve and what the CA says, and who was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.serves: Sequence[Proof] = ()
        self.revoked = ""
        self.asked: list[object] = []
        monkeypatch.setattr(proving, "prove", self.prove)
        monkeypatch.setattr(revocation, "look", self.look)

    def prove(self, hosts: object, *_: object) -> Sequence[Proof]:
        """Return what is served."""
        self.asked.append(hosts)
        return self.serves

    def look(self, *_: object) -> Finding:
        """Return what the CA says."""
        self.asked.append("ca")
        return Finding(self.revoked)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a world in which all is well."""
    return World(monkeypatch)


def refuse(store: Store, *standings: Standing, days: float = 0) -> list[str]:
    """Refuse what is outdated of activating 0002 on a replica, and return what is told."""
    told: list[str] = []
    plan = Plan(2, (), ("backend-02",), {}, (OWN, *standings))
    outdated.refuse(fleet(), store, plan, NOW + days * DAY, told.append)
    return told


def test_a_backend_that_serves_something_newer_stops_the_rollout(
    store: Store, world: World
) -> None:
    world.serves = [SERVES_NEWER]
    with pytest.raises(OutdatedError) as caught:
        refuse(store, NEWER)
    assert caught.value.message == (
        "nothing is activated: generation 0002 is older than what is served: backend-02 serves 0005"
    )
    assert caught.value.hint == (
        "was backend-01 restored from a backup, or reverted to a snapshot? Then `certsync renew "
        "--force` there orders one that replaces both; until then each backend serves what it has"
    )


@pytest.mark.parametrize(
    ("standing", "proof"),
    [
        pytest.param(NEWER, Proof("backend-02", Verdict.UNREACHABLE, "", "", "", "x"), id="silent"),
        pytest.param(
            NEWER, Proof("backend-02", Verdict.WRONG, "", "ff", "", "x", None), id="not trusted"
        ),
        pytest.param(
            NEWER, Proof("backend-02", Verdict.BEHIND, "", "ff", "", "x", NOW - DAY), id="older"
        ),
        pytest.param(
            NEWER, Proof("backend-02", Verdict.BEHIND, "0003", "ff", "", "x", NOW + DAY), id="ours"
        ),
        pytest.param(
            Standing("backend-02", reached=True, current="0005"), SERVES_NEWER, id="not whole"
        ),
        pytest.param(
            Standing("backend-02", reached=True, current="0001", generations={"0001": "b"}),
            SERVES_NEWER,
            id="a lower number",
        ),
    ],
)
def test_a_claim_of_something_newer_is_believed_for_a_certificate_only(
    store: Store, world: World, standing: Standing, proof: Proof
) -> None:
    world.serves = [proof]
    refuse(store, standing)


def test_what_is_ordered_later_than_that_goes_live(store: Store, world: World) -> None:
    world.serves = [Proof("backend-02", Verdict.BEHIND, "", "ff", "", "x", NOW)]
    refuse(store, NEWER)


def test_what_the_ca_has_revoked_goes_live_nowhere_and_another_one_is_ordered(
    store: Store, world: World
) -> None:
    assert issue.outlook(store, NOW).due is None
    world.revoked = "it was revoked on 2026-11-20 10:00 UTC"
    with pytest.raises(OutdatedError) as caught:
        refuse(store)
    assert caught.value.message == (
        "nothing is activated: generation 0002: it was revoked on 2026-11-20 10:00 UTC"
    )
    look = issue.outlook(store, NOW)
    assert look.due is not None
    assert look.due.why == "the CA has revoked generation 0002, or wants it replaced"
    # Better than what is about to expire.
    assert refuse(store, days=76)[0].startswith("warning: generation 0002: it was revoked")


def test_nobody_is_asked_where_nothing_is_activated_or_it_was_just_ordered(
    store: Store, world: World
) -> None:
    outdated.refuse(fleet(), store, Plan(2, ("backend-02",), (), {}, (OWN, NEWER)), NOW, print)
    receiver.point(NAME, "0001")
    refuse(store)
    assert world.asked == []
    refuse(store, days=2)
    assert world.asked == ["ca"]
