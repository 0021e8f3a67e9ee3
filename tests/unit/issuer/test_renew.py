"""What a run's problems come to, what people and monitoring are given of it, and when it waits."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from certsync.issuer import session
from certsync.issuer.backoff import Tries
from certsync.issuer.ca.before_order import claims
from certsync.issuer.ca.due import wish
from certsync.issuer.ca.issuance.binding import Binding, read_binding
from certsync.issuer.ca.issuance.obtain import replaced
from certsync.issuer.ca.ordering import _wait_after_failures
from certsync.issuer.commands.renew import _bar_the_future, _refuse_the_past
from certsync.issuer.hourly import Run
from certsync.issuer.monitoring.afterwards import observed, readings
from certsync.issuer.next_run import Outlook, described
from certsync.issuer.replicas.rollout import Standing
from certsync.issuer.state import Known, Lineage, State
from certsync.issuer.steps import COMPROMISE, ISSUANCE, RENEWAL, ROLLOUT, Step, take
from certsync.issuer.store import Store
from certsync.model.errors import (
    CaBusyError,
    CaError,
    ClockError,
    DnsError,
    FencedError,
    LockHeldError,
    RolloutError,
    TooSoonError,
)
from certsync.model.options import KeyType
from certsync.model.proof import Proof, Verdict
from certsync.programs import lock
from tests.unit.fake_fleet import DIRECTORY, NAME, NOW, fleet, manifest

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("ahead", "live", "barred"),
    [
        pytest.param(365 * DAY, 1, True, id="in a year"),
        pytest.param(DAY / 2, 1, False, id="a clock that is half a day behind"),
        pytest.param(365 * DAY, 2, False, id="it is live: the clock may be wrong"),
    ],
)
def test_what_is_not_valid_for_long_keeps_no_order_from_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: timedelta, live: int, barred: bool
) -> None:
    run = a_run(tmp_path)
    future = manifest(2, age=-ahead / DAY)
    monkeypatch.setattr(Store, "manifests", lambda *_: {1: manifest(1, age=10), 2: future})
    monkeypatch.setattr(Store, "numbers", lambda *_: [1, 2])
    monkeypatch.setattr(Store, "current", lambda *_: live)
    _bar_the_future(run)
    assert (run.store.target(NAME) == 1) is barred


def a_run(tmp_path: Path) -> Run:
    return Run(fleet(), Store(tmp_path, tmp_path), NOW, print, [])


# Problems


def test_a_run_without_problems_is_good(tmp_path: Path) -> None:
    assert a_run(tmp_path).trouble() is None


def test_one_problem_is_told_as_it_is(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    run.problems = [CaBusyError("busy", "later")]
    assert run.trouble() is run.problems[0]


def test_a_run_whose_clock_is_shown_wrong_does_not_know_the_time(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    assert run.knows_the_time
    run.problems = [CaBusyError("busy", "later"), ClockError("365 days ahead", "set it")]
    assert not run.knows_the_time


def test_several_problems_are_told_together_and_a_failure_outweighs_a_pause(
    tmp_path: Path,
) -> None:
    run = a_run(tmp_path)
    run.problems = [DnsError("no record", "set it"), RolloutError("backend-02: off", "mend it")]
    trouble = run.trouble()
    assert trouble is not None
    assert (trouble.message, trouble.hint, trouble.exit_status) == (
        "no record; backend-02: off", "mend it", 1
    )  # fmt: skip


def test_a_run_that_was_fenced_in_one_part_knows_it_in_the_next(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    run.problems = [RolloutError("backend-02: off")]
    assert not run.is_fenced
    run.problems.append(FencedError("backend-02 refuses this issuer's push key"))
    assert run.is_fenced


def test_a_clock_before_the_certificates_own_time_is_told() -> None:
    _refuse_the_past(manifest(), NOW - timedelta(minutes=4))
    with pytest.raises(ClockError) as caught:
        _refuse_the_past(manifest(3), NOW - DAY)
    assert caught.value.message == (
        "the issuer's clock says 2026-11-20 12:00 UTC, before generation 0003 was made "
        "(2026-11-21 12:00 UTC)"
    )
    assert caught.value.hint == "set the clock (timedatectl set-ntp true); nothing was changed"


# Pauses


def test_an_unattended_run_repeats_why_it_waits() -> None:
    tries = Tries().failed(NOW, "no answer", "look")
    with pytest.raises(CaError) as caught:
        _wait_after_failures(tries, NOW, interactive=False)
    assert caught.value.message == ("no answer; it is tried again after 2026-11-21 12:01:00 UTC")
    assert (caught.value.hint, caught.value.exit_status) == ("look", 1)
    _wait_after_failures(tries, NOW + timedelta(minutes=1), interactive=False)
    _wait_after_failures(tries, NOW, interactive=True)


def test_a_pause_that_the_ca_asked_for_is_kept_by_all_and_ends_with_75() -> None:
    tries = Tries().failed(NOW, "busy", exit_status=75, ca_said=NOW + DAY)
    for interactive in (True, False):
        with pytest.raises(TooSoonError) as caught:
            _wait_after_failures(tries, NOW, interactive=interactive)
        assert caught.value.message == "busy; it is tried again after 2026-11-22 12:00:00 UTC"
        assert caught.value.exit_status == 75


def test_what_the_fleet_asks_for_is_told_apart() -> None:
    wishes = [
        fleet(), fleet(names=("a.example.com",)), fleet(key_type=KeyType.RSA_2048),
        fleet(profile="shortlived"),
    ]  # fmt: skip
    assert len({wish(each) for each in wishes}) == 4


# What nobody foresaw


def test_a_part_that_fails_stops_no_other_part(tmp_path: Path) -> None:
    run, done = a_run(tmp_path), []

    def failing(error: Exception) -> Callable[[], None]:
        def work() -> None:
            raise error

        return work

    for error in (CaError("no"), OSError(28, "No space left", "f"), ZeroDivisionError("what")):
        run.part(failing(error))
        run.part(lambda: done.append(1))
    assert len(done) == 3
    assert [each.message for each in run.problems] == [
        "no", "f: No space left", "unforeseen: ZeroDivisionError('what')"
    ]  # fmt: skip


def test_numbers_that_a_replica_claims_are_four_digits_or_nothing() -> None:
    claimed = dict.fromkeys(("0007", "9" * 5000, "7", "12345", "x", "\u0664\u0664\u0664\u0664"), "")
    assert claims(Standing("backend-02", reached=True, generations=claimed)) == {7}


# Orders


@pytest.mark.parametrize(
    ("before", "account", "identifier"),
    [
        pytest.param(None, "a", "", id="a first order replaces nothing"),
        pytest.param({}, "a", "k.s", id="ordered by this account at this CA"),
        pytest.param({}, "b", "", id="ordered by another account"),
        pytest.param({"directory": "https://other.example/dir"}, "a", "", id="at another CA"),
        pytest.param({"names": ("other.example.com",)}, "a", "", id="no name in common"),
        pytest.param({"names": (NAME, "x.example.com")}, "a", "k.s", id="one name in common"),
        pytest.param({"renewal_id": ""}, "a", "", id="adopted from elsewhere"),
    ],
)
def test_an_order_says_what_it_replaces_only_where_the_manifest_does(
    before: dict[str, object] | None, account: str, identifier: str
) -> None:
    values = {"account": "a", "renewal_id": "k.s", "directory": DIRECTORY, **(before or {})}
    old = None if before is None else manifest(**values)  # type: ignore[arg-type]  # a test's shorthand
    assert replaced(old, fleet(), account) == identifier


def bound(tmp_path: Path, content: str, mode: int = 0o600) -> Binding | None:
    path = tmp_path / "key"
    path.write_text(content)
    path.chmod(mode)
    wanted = fleet(authority=fleet().authority.__class__(DIRECTORY, eab_key_id="kid"))
    return read_binding(wanted, path)


def test_an_external_account_binding_is_read_and_never_shown(tmp_path: Path) -> None:
    found = bound(tmp_path, "c2VjcmV0\n")
    assert found == Binding("kid", "c2VjcmV0")
    assert "c2VjcmV0" not in repr(found)
    assert read_binding(fleet(), tmp_path / "key") is None


# The plan


def test_a_renewal_is_its_issuance_and_its_rollout_and_each_step_is_told_apart() -> None:
    assert (*ISSUANCE, *ROLLOUT, Step.SHARE, Step.REMEMBER) == RENEWAL
    assert {*RENEWAL, *COMPROMISE} == set(Step)
    assert len({step.value for step in Step}) == len(Step)
    assert [step for step in COMPROMISE if step in RENEWAL] == list(RENEWAL)
    assert take(Step.LOOK, lambda: 5) == 5


def test_an_outlook_is_read_line_by_line() -> None:
    assert described(Outlook("due", ["a", "b"], "later")) == [
        "an order would be made: due", "a", "b", "later"
    ]  # fmt: skip
    assert described(Outlook("", [], "later")) == ["later"]
    assert described(Outlook("", [], "")) == []


# Afterwards


KNOWN = Lineage(
    generation="0002",
    not_before=NOW.isoformat(),
    not_after=(NOW + 6 * DAY).isoformat(),
    next_renewal=(NOW + 3 * DAY).isoformat(),
    tries=Tries().failed(NOW, "x"),
    backends={"backend-01": Known(), "backend-02": Known(behind_since=NOW.isoformat())},
)


def test_people_are_told_by_what_the_run_has_seen() -> None:
    seen = observed(fleet(), KNOWN, NOW, DnsError("no record", "set it"))
    assert (seen.error, seen.hint, seen.later) == ("no record", "set it", True)
    assert seen.backends == {"backend-01": None, "backend-02": NOW}
    assert (seen.not_before, seen.not_after) == (NOW, NOW + 6 * DAY)
    nothing = observed(fleet(), Lineage(), NOW, None)
    assert (nothing.backends, nothing.not_after, nothing.error) == (None, None, "")


def test_monitoring_is_given_the_last_success_though_this_run_failed() -> None:
    state = State({NAME: KNOWN}, last_success=(NOW - DAY).isoformat())
    proof = Proof("backend-01", Verdict.IN_SYNC, "0002", "aa", NOW.isoformat(), "")
    failed = readings(fleet(), state, NOW, CaError("x"), [proof])
    assert (failed.last_success, failed.exit_status, failed.failed_tries) == (NOW - DAY, 1, 1)
    assert (failed.generation, failed.next_renewal, failed.proofs) == (2, NOW + 3 * DAY, (proof,))
    assert readings(fleet(), state, NOW, None, []).last_success == NOW


# How a run ended


@pytest.fixture
def session_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Return a store for sessions of no root, with a lock of their own."""
    monkeypatch.setattr(session, "require_root", lambda: None)
    monkeypatch.setattr(lock, "LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(lock, "HOLDER", str(tmp_path / "holder"))
    monkeypatch.setattr(lock, "WORK", str(tmp_path / "work"))
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    yield Store(tmp_path, tmp_path)
    for each, handler in handlers.items():
        signal.signal(each, handler)


def test_a_run_that_is_told_to_stop_is_noted_with_what_it_has_done(session_store: Store) -> None:
    def stopped() -> None:
        with session.on_issuer(session_store, "renew", "", NOW) as done:
            done.append("ordered generation 0002")
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        stopped()
    run = session_store.recall().runs["renew"]
    assert (run.exit, run.error, run.did) == (1, "interrupted", ("ordered generation 0002",))


def test_a_run_that_finds_its_memory_broken_says_so_and_notes_it(
    session_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    session_store.state_file.write_text("{")
    with session.on_issuer(session_store, "renew", "", NOW):
        pass
    aside = f"{session_store.state_file}.broken"
    assert f"cannot be read: moved to {aside}" in capsys.readouterr().err
    run = session_store.recall().runs["renew"]
    assert run.did == (f"put a broken state file aside as {aside}",)


def test_a_run_that_breaks_is_noted_too(session_store: Store) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        session.on_issuer(session_store, "renew", "", NOW),
    ):
        raise ZeroDivisionError("what")
    run = session_store.recall().runs["renew"]
    assert run.error == "unforeseen: ZeroDivisionError('what')"


def test_a_run_that_finds_the_lock_held_is_told_by_whom_and_notes_nothing(
    session_store: Store,
) -> None:
    with (
        session.on_issuer(session_store, "renew", "", NOW),
        pytest.raises(LockHeldError, match=r"^certsync renew \(process \d+ on the issuer\) holds"),
        session.on_issuer(session_store, "rollback", "", NOW),
    ):
        pass
    assert set(session_store.recall().runs) == {"renew"}
