"""When the guards end, where the issuer itself has nothing live, or has lost the link to it."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from certsync.issuer import canary, guards
from certsync.issuer.backoff import Tries
from certsync.issuer.ca.before_order import look_before_buying
from certsync.issuer.ca.due import Outlook
from certsync.issuer.canary import Sighting
from certsync.issuer.replicas import admission
from certsync.issuer.run import Run
from certsync.issuer.schedule import Due
from certsync.issuer.store import Store
from certsync.model.errors import CanaryError, FencedError
from certsync.model.proof import Proof, Verdict
from certsync.system import dns, proving
from tests.unit.fake_fleet import NOW, fleet, manifest
from tests.unit.issuer.fake_disk import Heard, situation

DAY = timedelta(days=1)
PUBLIC = fleet().public_addresses[0]


def served(begin: datetime | None = None, end: datetime | None = None) -> Proof:
    return Proof("backend-02", Verdict.BEHIND, "", "ff", "", "it serves another", begin, end)


def of_days(days: float) -> Proof:
    return served(NOW, NOW + days * DAY)


def run_with(monkeypatch: pytest.MonkeyPatch, after: timedelta, *proofs: Proof) -> Run:
    """Return the run of an issuer that has nothing live, while the backends serve these."""
    monkeypatch.setattr(proving, "prove", lambda *_: list(proofs))
    return Heard().run(situation(manifest(1), current=0), NOW + after)


@pytest.mark.parametrize(
    ("proofs", "days"),
    [
        pytest.param([], None, id="nobody answers"),
        pytest.param([served()], None, id="placeholders alone"),
        pytest.param([of_days(90)], 75, id="one certificate"),
        pytest.param([of_days(90), served(), of_days(45)], 37.5, id="the earliest counts"),
        pytest.param([of_days(90), served(NOW - 4 * DAY, NOW - DAY)], -1.75, id="one has expired"),
    ],
)
def test_where_nothing_is_live_here_what_the_backends_serve_ends_the_guards(
    monkeypatch: pytest.MonkeyPatch, proofs: list[Proof], days: float | None
) -> None:
    end = guards.guards_end(run_with(monkeypatch, timedelta(0), *proofs))
    assert end == (None if days is None else NOW + days * DAY)


def test_a_new_generation_that_was_never_live_does_not_begin_the_guards_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proving, "prove", lambda *_: [of_days(90)])
    lost = situation(manifest(2, age=-74), current=None)
    assert guards.guards_end(Heard().run(lost)) == NOW + 75 * DAY


def test_the_backends_are_asked_once_in_a_run_and_never_where_something_is_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, asked = run_with(monkeypatch, timedelta(0)), list[object]()

    def prove(hosts: object, *_: object) -> list[Proof]:
        asked.append(hosts)
        return [of_days(90)]

    monkeypatch.setattr(proving, "prove", prove)
    for _ in range(3):
        assert guards.guards_end(run) == NOW + 75 * DAY
    assert len(asked) == 1
    guards.guards_end(Heard().run(situation(manifest(1))))
    assert len(asked) == 1


def test_guards_end_where_the_issuers_server_still_serves_what_it_had_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proving, "prove", lambda *_: [of_days(90)])
    found = situation(manifest(2, age=-74))
    assert not guards.have_ended(Heard().run(found, NOW + 74 * DAY))
    assert guards.have_ended(Heard().run(found, NOW + 75 * DAY))


def test_a_fence_ends_though_the_issuer_has_lost_what_it_had_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = Sighting(PUBLIC, PUBLIC, public=True, reached=True, seen=True, answer="")
    monkeypatch.setattr(canary, "look", lambda *_: [here])
    with pytest.raises(FencedError):
        admission.leave_out(run_with(monkeypatch, 74 * DAY, of_days(90)), ["backend-02"], [])
    late = run_with(monkeypatch, 75 * DAY, of_days(90))
    assert set(admission.leave_out(late, ["backend-02"], [])) == {"backend-02"}


def test_a_lost_challenge_stops_a_first_order_until_what_is_served_would_expire(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Store, "prove_writable", lambda _: None)
    found = dns.Found(fleet().public_addresses)
    monkeypatch.setattr(dns, "look_up_all", lambda names: dict.fromkeys(names, found))
    lost = Sighting("backend-02", "203.0.113.12", public=False, reached=True, seen=False,
                    answer="HTTP 404")  # fmt: skip
    monkeypatch.setattr(canary, "look", lambda *_: [lost])
    look = Outlook(None, Due("no certificate yet", first=True), None, Tries())
    for run in (
        run_with(monkeypatch, 74 * DAY, of_days(90)), run_with(monkeypatch, 75 * DAY, served())
    ):  # fmt: skip
        with pytest.raises(CanaryError):
            look_before_buying(run, look)
    late = run_with(monkeypatch, 75 * DAY, of_days(90))
    assert look_before_buying(late, look) == fleet().lineages[0]
