"""Nothing old goes live over something newer, and nothing that the CA has revoked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from certsync.issuer.backoff import Tries
from certsync.issuer.ca import ari, crl, due
from certsync.issuer.ca.crl import Finding
from certsync.issuer.ca.renewal_info import RenewalInfo
from certsync.issuer.memory import Memory
from certsync.issuer.replicas import outdated
from certsync.issuer.replicas.rollout import Plan, Standing
from certsync.issuer.schedule import Due
from certsync.issuer.store import Store
from certsync.model.errors import CaSilentError, OutdatedError
from certsync.model.generation import Manifest
from certsync.model.proof import Proof, Verdict
from certsync.programs import receiver
from certsync.system import proving
from tests.unit.fake_fleet import NAME, NOW
from tests.unit.issuer.fake_disk import Heard, disk, keep, seen

DAY = timedelta(days=1)
OWN = Standing("backend-01", reached=True, current="0002", generations={"0002": "a"})
NEWER = Standing("backend-02", reached=True, current="0005", generations={"0005": "b"})
SERVES_NEWER = Proof("backend-02", Verdict.BEHIND, "", "ff", "", "", NOW + DAY)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return an issuer's store with generation 0002 live."""
    monkeypatch.setattr(receiver, "HOME", tmp_path / "etc")
    store = disk(tmp_path)
    keep(store, tmp_path, 2)
    return store


class World:
    """What the backends serve and what the CA says, and who was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.serves: Sequence[Proof] = ()
        self.revoked = ""
        self.window: tuple[datetime, datetime] | None = None
        self.is_silent = False
        self.asked: list[str] = []
        monkeypatch.setattr(proving, "prove", self.prove)
        monkeypatch.setattr(crl, "by_list", self.by_list)
        monkeypatch.setattr(ari, "ask", self.ask)

    def prove(self, *_: object) -> Sequence[Proof]:
        """Return what is served."""
        self.asked.append("backends")
        return self.serves

    def by_list(self, *_: object) -> Finding:
        """Return what the CA's revocation list says."""
        self.asked.append("list")
        return Finding(self.revoked)

    def ask(self, _directory: str, _bundle: str, newest: Manifest, now: datetime) -> Any:
        """Return what the CA suggests."""
        self.asked.append("renewal information")
        if self.is_silent:
            raise CaSilentError("no answer")
        return RenewalInfo(newest.fingerprint, now, now + DAY / 4, *(self.window or ())), None


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a world in which all is well."""
    return World(monkeypatch)


def remember(store: Store, **changes: Any) -> None:
    """Let the issuer remember this of its lineage."""
    Memory(store).note(NAME, **changes)


def order_due(store: Store, now: datetime = NOW) -> Due | None:
    return due.outlook(seen(store), Memory(store).of(NAME), now).due


def refuse(store: Store, *standings: Standing, days: float = 0) -> list[str]:
    """Refuse what is outdated of activating 0002 on a replica, and return what is told."""
    heard = Heard()
    plan = Plan(2, (), ("backend-02",), {}, (OWN, *standings))
    outdated.refuse(heard.run(seen(store), NOW + days * DAY), plan)
    return heard.told


def test_a_backend_that_serves_something_newer_stops_the_rollout(
    store: Store, world: World
) -> None:
    world.serves = [SERVES_NEWER]
    with pytest.raises(OutdatedError) as caught:
        refuse(store, NEWER)
    assert caught.value.message == (
        "nothing was activated: generation 0002 is older than what is served: "
        "backend-02 serves 0005"
    )
    assert caught.value.hint == (
        "if backend-01 was restored from a backup or snapshot, run `certsync renew --force` there "
        "to replace all of them; until then each backend serves what it has"
    )
    # Better than what is about to expire, but not where something newer is served.
    run = Heard().run(seen(store), NOW + 76 * DAY)
    plan = Plan(2, ("backend-02",), ("backend-02", "backend-03"), {}, (OWN, NEWER))
    left = outdated.refuse(run, plan)
    assert (left.push, left.activate) == ((), ("backend-03",))
    assert refuse(store, NEWER, days=76)[0].startswith("warning: generation 0002 is older")


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


def test_something_newer_that_is_not_valid_yet_by_our_clock_stops_the_rollout(
    store: Store, world: World
) -> None:
    begin, end = NOW + DAY, NOW + 91 * DAY
    world.serves = [Proof("backend-02", Verdict.WRONG, "", "ff", "", "not yet", begin, end)]
    with pytest.raises(OutdatedError, match="backend-02 serves 0005"):
        refuse(store, NEWER)


def test_something_newer_that_has_expired_stops_nothing(store: Store, world: World) -> None:
    begin, end = NOW + DAY, NOW + 7 * DAY
    world.serves = [Proof("backend-02", Verdict.WRONG, "", "ff", "", "expired", begin, end)]
    refuse(store, NEWER, days=8)


def test_what_is_ordered_later_than_that_goes_live(store: Store, world: World) -> None:
    world.serves = [Proof("backend-02", Verdict.BEHIND, "", "ff", "", "x", NOW)]
    refuse(store, NEWER)


def test_what_the_ca_has_revoked_goes_live_nowhere_and_another_one_is_ordered(
    store: Store, world: World
) -> None:
    world.revoked = "it was revoked on 2026-11-20 10:00 UTC"
    for days in (2, 2.1):
        with pytest.raises(OutdatedError) as caught:
            refuse(store, days=days)
        assert caught.value.message == (
            "nothing was activated: generation 0002: the CA has revoked it"
        )
    assert world.asked == ["list", "renewal information"]
    found = order_due(store, NOW + 2 * DAY)
    assert found is not None
    assert found.why == "the CA has revoked generation 0002"
    # A CA that revokes every new one at once gets one order a day.
    assert order_due(store, NOW + DAY / 2) is None
    # Better than what is about to expire.
    assert refuse(store, days=76)[0].startswith("warning: generation 0002: the CA has revoked it")


PAST = (NOW - DAY, NOW - DAY / 2)


def test_what_the_ca_wants_replaced_at_once_waits_for_the_order_that_is_due(
    store: Store, world: World
) -> None:
    world.window = PAST
    with pytest.raises(OutdatedError, match="generation 0002: the CA wants it replaced at once"):
        refuse(store)
    advised = Memory(store).of(NAME).renewal_info
    assert advised is not None
    assert advised.window == PAST
    found = order_due(store)
    assert found is not None
    assert found.why.startswith("the CA suggests ")


@pytest.mark.parametrize(
    ("window", "known"),
    [
        pytest.param(PAST, {"tries": Tries(count=1)}, id="an order has failed"),
        pytest.param(PAST, {"renewed_early_at": NOW - DAY / 2}, id="it wants each replaced"),
        pytest.param((NOW - 400 * DAY, NOW - 399 * DAY), {}, id="a year ago"),
        pytest.param((NOW + DAY, NOW + 2 * DAY), {}, id="later"),
        pytest.param(None, {}, id="nothing"),
    ],
)
def test_no_suggestion_keeps_a_replica_from_what_there_is_for_long(
    store: Store, world: World, window: tuple[datetime, datetime] | None, known: dict[str, Any]
) -> None:
    world.window = window
    remember(store, **known)
    assert refuse(store) == []


def test_a_replica_that_lags_for_long_has_the_ca_asked_every_six_hours(
    store: Store, world: World
) -> None:
    for run in range(24):
        refuse(store, days=run / 24)
    assert world.asked.count("list") == world.asked.count("renewal information") == 4


def test_a_restored_issuer_asks_whatever_it_remembers(store: Store, world: World) -> None:
    remember(store, revocation_asked=NOW)
    world.serves, world.window = [SERVES_NEWER], PAST
    with pytest.raises(OutdatedError, match="is older than what is served"):
        refuse(store, NEWER)
    assert world.asked == ["backends", "list", "renewal information"]
    assert order_due(store) is not None


def test_a_silent_ca_keeps_nobody(store: Store, world: World) -> None:
    world.is_silent = True
    assert refuse(store) == []


def test_nobody_is_asked_where_nothing_is_activated_or_it_was_just_ordered(
    store: Store, world: World
) -> None:
    outdated.refuse(Heard().run(seen(store)), Plan(2, ("backend-02",), (), {}, (OWN, NEWER)))
    receiver.point(NAME, "0001")
    refuse(store)
    assert world.asked == []
    refuse(store, days=2)
    assert world.asked == ["list", "renewal information"]


def test_a_dry_run_asks_no_ca_and_writes_nothing(store: Store, world: World) -> None:
    world.serves = [SERVES_NEWER]
    plan = Plan(2, (), ("backend-02",), {}, (OWN, NEWER))
    assert outdated.look(seen(store), plan, NOW).newer != ""
    assert world.asked == ["backends"]
    assert not store.state_file.exists()


def test_a_certificate_that_cannot_be_parsed_stops_no_look_at_the_revocation_lists() -> None:
    found = crl.by_list(b"no certificate", NOW)
    assert (found.revoked, found.unknown[:36]) == ("", "the certificate cannot be parsed: Un")
