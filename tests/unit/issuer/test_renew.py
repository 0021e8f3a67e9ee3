"""What a run's problems come to, what people and monitoring are given of it, and when it waits."""

from __future__ import annotations

import builtins
import errno
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from certsync.issuer import session
from certsync.issuer.backoff import Tries
from certsync.issuer.ca import due
from certsync.issuer.ca.due import request_key
from certsync.issuer.ca.issuance.binding import Binding, read_binding
from certsync.issuer.ca.issuance.obtain import replaced
from certsync.issuer.ca.ordering import _wait_after_failures
from certsync.issuer.ca.renewal_info import RenewalInfo
from certsync.issuer.commands import renew as verb
from certsync.issuer.commands.renew import _bar_the_future, _refuse_the_past
from certsync.issuer.compromise import Marks
from certsync.issuer.hourly import Hourly
from certsync.issuer.memory import Memory
from certsync.issuer.monitoring.afterwards import Ended, observed, readings
from certsync.issuer.next_run import Outlook, described
from certsync.issuer.replicas import outgoing
from certsync.issuer.replicas.rollout import Standing, claims
from certsync.issuer.state import Known, LineageState, State
from certsync.issuer.steps import COMPROMISE, ISSUANCE, RENEWAL, ROLLOUT, Step, take
from certsync.issuer.store import Store
from certsync.issuer.tickets import keyring, resumption
from certsync.issuer.tickets.decide import Note
from certsync.model.errors import (
    CaBusyError,
    CaError,
    CertsyncError,
    ClockError,
    DnsError,
    FencedError,
    LockHeldError,
    RolloutError,
    TooSoonError,
    as_certsync_error,
)
from certsync.model.fleet import Machine
from certsync.model.options import KeyType
from certsync.model.proof import Proof, Verdict
from certsync.programs import lock, receiver
from certsync.system import proving
from tests.unit.fake_fleet import DIRECTORY, NAME, NOW, fleet, lineage, manifest
from tests.unit.issuer.fake_disk import Heard, disk, keep, render, seen, situation
from tests.unit.issuer.test_registration import lay
from tests.unit.issuer.test_run import keep_empty

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
    tmp_path: Path, ahead: timedelta, live: int, barred: bool
) -> None:
    store = Store(tmp_path, tmp_path)
    keep_empty(store, NAME, 1, age=10)
    keep_empty(store, NAME, 2, age=-ahead / DAY)
    store.live(NAME).parent.mkdir()
    store.live(NAME).symlink_to(f"../archive/{NAME}/{live:04}")
    run = a_run(tmp_path).run
    _bar_the_future(run)
    assert (run.seen.target == 1) is barred


def a_run(tmp_path: Path) -> Hourly:
    return Hourly(Heard().run(seen(Store(tmp_path, tmp_path), fleet())))


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
        "the issuer's clock says 2026-11-20 12:00 UTC, which is before generation 0003 was issued "
        "(2026-11-21 12:00 UTC)"
    )
    assert caught.value.hint == "set the clock (timedatectl set-ntp true); nothing was changed"


# Pauses


def test_an_unattended_run_repeats_why_it_waits() -> None:
    look = due.Outlook(None, None, None, Tries().failed(NOW, "no answer", "look"))
    with pytest.raises(CaError) as caught:
        _wait_after_failures(look, NOW, interactive=False)
    assert caught.value.message == ("no answer; the next attempt is after 2026-11-21 12:01:00 UTC")
    assert (caught.value.hint, caught.value.exit_status) == ("look", 1)
    _wait_after_failures(look, NOW + timedelta(minutes=1), interactive=False)
    _wait_after_failures(look, NOW, interactive=True)


def test_a_pause_that_the_ca_asked_for_is_kept_by_all_and_ends_with_75() -> None:
    tries = Tries().failed(NOW, "busy", exit_status=75, ca_said=NOW + DAY)
    look = due.Outlook(None, None, None, tries)
    for interactive in (True, False):
        with pytest.raises(TooSoonError) as caught:
            _wait_after_failures(look, NOW, interactive=interactive)
        assert caught.value.message == "busy; the next attempt is after 2026-11-22 12:00:00 UTC"
        assert caught.value.exit_status == 75


def test_what_the_fleet_asks_for_is_told_apart() -> None:
    wishes = [
        fleet(), fleet(names=("a.example.com",)), fleet(key_type=KeyType.RSA_2048),
        fleet(profile="shortlived"),
    ]  # fmt: skip
    assert len({request_key(situation(wanted=each)) for each in wishes}) == 4


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
        "no", "f: No space left", "unexpected error: ZeroDivisionError('what')"
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
    assert replaced(old, DIRECTORY, lineage(), account) == identifier


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
        "an order would be placed: due", "a", "b", "later"
    ]  # fmt: skip
    assert described(Outlook("", [], "later")) == ["later"]
    assert described(Outlook("", [], "")) == []


# Afterwards


KNOWN = LineageState(
    generation="0002",
    not_before=NOW,
    not_after=NOW + 6 * DAY,
    next_renewal=NOW + 3 * DAY,
    tries=Tries().failed(NOW, "x"),
    backends={"backend-01": Known(), "backend-02": Known(behind_since=NOW)},
)


def test_people_are_told_by_what_the_run_has_seen() -> None:
    seen = observed(Ended(NAME, DnsError("no record", "set it"), []), KNOWN, NOW)
    assert (seen.error, seen.hint, seen.later) == ("no record", "set it", True)
    assert seen.backends == {"backend-01": None, "backend-02": NOW}
    assert (seen.not_before, seen.not_after) == (NOW, NOW + 6 * DAY)
    nothing = observed(Ended(NAME, None, []), LineageState(), NOW)
    assert (nothing.backends, nothing.not_after, nothing.error) == (None, None, "")


def test_monitoring_is_given_the_last_success_though_this_run_failed() -> None:
    state = State({NAME: KNOWN}, last_success=NOW - DAY)
    proof = Proof("backend-01", Verdict.IN_SYNC, "0002", "aa", NOW.isoformat(), "")
    failed = readings(Ended(NAME, None, [proof]), state, NOW, CaError("x"))
    assert (failed.last_success, failed.exit_status, failed.failed_tries) == (NOW - DAY, 1, 1)
    assert (failed.generation, failed.next_renewal, failed.proofs) == (2, NOW + 3 * DAY, (proof,))
    assert readings(Ended(NAME, None, []), state, NOW, None).last_success == NOW


# How a run ended


@pytest.fixture
def session_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Return a store for sessions of no root, with a lock of their own."""
    monkeypatch.setattr(session, "require_root", lambda: None)
    monkeypatch.setattr(lock, "LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(lock, "HOLDER", str(tmp_path / "holder"))
    monkeypatch.setattr(lock, "WORK", str(tmp_path / "work"))
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    yield disk(tmp_path)
    for each, handler in handlers.items():
        signal.signal(each, handler)


def test_a_run_that_is_told_to_stop_is_noted_with_what_it_has_done(session_store: Store) -> None:
    def stopped() -> None:
        with session.on_issuer(session_store, "renew", "", NOW) as found:
            found.done.append("ordered generation 0002")
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        stopped()
    run = Memory(session_store).state.runs["renew"]
    assert (run.exit, run.error, run.did) == (1, "interrupted", ("ordered generation 0002",))


def test_a_run_that_finds_its_memory_broken_says_so_and_notes_it(
    session_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    session_store.state_file.write_text("{")
    with session.on_issuer(session_store, "renew", "", NOW):
        pass
    aside = f"{session_store.state_file}.broken"
    assert f"is broken: moved to {aside}" in capsys.readouterr().err
    run = Memory(session_store).state.runs["renew"]
    assert run.did == (f"moved a broken state file to {aside}",)


def test_a_run_that_breaks_is_noted_too(session_store: Store) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        session.on_issuer(session_store, "renew", "", NOW),
    ):
        raise ZeroDivisionError("what")
    run = Memory(session_store).state.runs["renew"]
    assert run.error == "unexpected error: ZeroDivisionError('what')"


def test_a_disk_that_cannot_take_the_end_of_a_run_hides_no_failure_of_the_run(
    session_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(CaError, match="the CA refused"),
        session.on_issuer(session_store, "renew", "", NOW),
    ):
        raise CaError("the CA refused")
    path = session_store.state_file
    assert f"{path}: No space left on device: the run's end is not" in capsys.readouterr().err
    # Where the run itself was well, that is its failure, and it names the file.
    with (
        pytest.raises(OSError, match="No space left") as caught,
        session.on_issuer(session_store, "renew", "", NOW),
    ):
        pass
    assert as_certsync_error(caught.value).message == f"{path}: No space left on device"


def test_a_run_that_finds_the_lock_held_is_told_by_whom_and_notes_nothing(
    session_store: Store,
) -> None:
    with (
        session.on_issuer(session_store, "renew", "", NOW),
        pytest.raises(LockHeldError, match=r"^certsync renew \(process \d+ on the issuer\) has "),
        session.on_issuer(session_store, "rollback", "", NOW),
    ):
        pass
    assert set(Memory(session_store).state.runs) == {"renew"}


# A run that finds nothing to do


@pytest.fixture
def quiet_store(session_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a store where nothing is due, and every backend serves what it should."""
    store = session_store
    monkeypatch.setattr(receiver, "HOME", store.root)
    keep(store, tmp_path, 1)
    keep(store, tmp_path, 2)
    lay(store.account(DIRECTORY))
    store.withdraw(NAME, {})
    store.mark_compromised(NAME, Marks())
    advice = RenewalInfo(manifest(2).fingerprint, NOW, NOW + DAY / 4)
    Memory(store).note(NAME, renewal_info=advice, asked_all=NOW, challenge_looked_at=NOW)

    def prove(hosts: list[Machine], *_: object) -> list[Proof]:
        return [Proof(each.name, Verdict.IN_SYNC, "0002", "ff", "", "") for each in hosts]

    monkeypatch.setattr(proving, "prove", prove)
    monkeypatch.setattr(resumption, "not_resuming", lambda *_: set())
    monkeypatch.setattr(keyring, "note", lambda: Note(NOW, ("backend-02", "backend-03")))
    monkeypatch.setattr(outgoing, "PUSH_RUNTIME", tmp_path / "run")
    return store


def reads_of(store: Store, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return how often each of a store's files is read from here on."""
    read = Counter[str]()

    def counting(real: Callable[..., Any]) -> Callable[..., Any]:
        def open_counted(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            folders = (store.root.resolve(), store.state.resolve())
            if "r" in mode and not isinstance(path, int):
                found = Path(path).resolve()
                if any(found.is_relative_to(folder) for folder in folders):
                    read[str(found)] += 1
            return real(path, mode, *rest, **options)

        return open_counted

    monkeypatch.setattr(builtins, "open", counting(builtins.open))
    monkeypatch.setattr(Path, "open", counting(Path.open))
    return read


def test_a_quiet_hourly_run_reads_each_file_once(
    quiet_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = reads_of(quiet_store, monkeypatch)
    with session.on_issuer(quiet_store, "renew", "", NOW) as found:
        verb.renew(found)
    assert found.done == []
    generations = [quiet_store.archive(NAME) / f"{number:04}" for number in (1, 2)]
    for path in (
        quiet_store.fleet_file, quiet_store.state_file,
        *(folder / file for folder in generations for file in receiver.FILES),
    ):  # fmt: skip
        assert str(path) in read
    assert {path: count for path, count in read.items() if count > 1} == {}


def test_a_disk_that_fails_at_one_lineage_is_told_to_people_and_holds_up_no_other(
    quiet_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = lineage("shop.example.net")
    render(quiet_store, fleet(lineages=(lineage(), shop)))
    (quiet_store.state / f"withdrawn-{shop.name}.json").mkdir()
    heard = list[Ended]()
    monkeypatch.setattr(verb, "afterwards", lambda _session, _fleet, runs, _: heard.extend(runs))
    with (
        pytest.raises(CertsyncError, match=rf"^{shop.name}: .* Is a directory$"),
        session.on_issuer(quiet_store, "renew", "", NOW) as found,
    ):
        verb.renew(found)
    assert [(each.lineage, each.error is None) for each in heard] == [
        (NAME, True), (shop.name, False)
    ]  # fmt: skip
