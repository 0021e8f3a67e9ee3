"""How a walk over the fleet ends: what is a failure of it, what is told, and what waits."""

from __future__ import annotations

from typing import Any

import pytest

from certsync.model.answers import PastRun, Proven
from certsync.model.errors import HostError, LaterError, RolloutError
from certsync.model.finding import Finding
from certsync.model.options import Balancer, Provider
from certsync.model.report import Row
from certsync.operator.deployment import conclusion, execute
from certsync.operator.deployment.executed import Executed
from certsync.operator.deployment.plan import Step
from certsync.operator.deployment.progress import Outcome
from certsync.operator.deployment.run import Run
from certsync.operator.watching.status import Status
from tests.unit.fake_fleet import NOW, fleet

ORDER = Step("4 of 6: the certificate", "backend-01", "Order the certificate")
WITHOUT_ADDRESS = "balancer: it sends no backend the client's address"
RECORDS = PastRun("issue", NOW, 75, "shop: it leads elsewhere", "shop. A 203.0.113.10")
REFUSED = PastRun("issue", NOW, 1, "shop: the CA refused", "ask it why")


def executed(*changed: Step, output: str = "", **failed: str) -> Executed:
    # One that was never started, and that has printed this.
    run = Run.__new__(Run)
    run.output = output.splitlines()
    names = {name.replace("_", "-"): what for name, what in failed.items()}
    return Executed(run, Outcome(changed=list(changed), failed=names))


def status(*findings: str, issue: PastRun | None = None, rows: tuple[Row, ...] = ()) -> Status:
    told = Proven(runs={"issue": issue}) if issue else Proven()
    found = [Finding(host, text) for host, _, text in (each.partition(": ") for each in findings)]
    without_client_address = [each for each in found if str(each) == WITHOUT_ADDRESS]
    return Status(fleet(2), list(rows), found, [], without_client_address, told, [], "here", [], "")


def row(name: str, pool: str, *, proven: bool = True) -> Row:
    return Row(name, "0001", "ab", 60, pool, "", good=proven, proven=proven)


def test_a_walk_after_which_all_is_well_ends_well() -> None:
    conclusion.report_outcome(fleet(2), executed(ORDER), status(issue=PastRun("issue", NOW, 0)))


def test_what_is_wrong_after_a_walk_is_its_failure() -> None:
    with pytest.raises(RolloutError, match=r"^backend-02: no answer$"):
        conclusion.report_outcome(fleet(2), executed(), status("backend-02: no answer"))


def test_an_order_of_one_lineage_that_failed_is_told_though_the_walk_went_on() -> None:
    with pytest.raises(RolloutError) as caught:
        conclusion.report_outcome(fleet(2), executed(ORDER), status(issue=REFUSED))
    assert caught.value.message == "backend-01: shop: the CA refused"
    assert caught.value.hint == "ask it why"


def test_one_that_waits_for_records_is_told_with_them_and_with_all_else_that_is_wrong() -> None:
    with pytest.raises(LaterError) as caught:
        conclusion.report_outcome(
            fleet(2), executed(ORDER), status("backend-02: self-signed", issue=RECORDS)
        )
    assert caught.value.message == "shop: it leads elsewhere; backend-02: self-signed"
    assert caught.value.hint == "shop. A 203.0.113.10"


def test_an_order_that_failed_before_this_walk_is_no_failure_of_it() -> None:
    conclusion.report_outcome(fleet(2), executed(), status(issue=REFUSED))


def test_who_is_not_told_the_clients_address_fails_a_deploy_and_is_told_after_other_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(RolloutError, match=WITHOUT_ADDRESS):
        conclusion.report_outcome(fleet(2), executed(), status(WITHOUT_ADDRESS), whole=True)
    capsys.readouterr()
    conclusion.report_outcome(fleet(2), executed(), status(WITHOUT_ADDRESS))
    assert f"warning: {WITHOUT_ADDRESS}" in capsys.readouterr().err


APT = """\
    [backend-02] Reading package lists...
    [backend-02] Building dependency tree...
    [backend-02] E: Unable to locate package nginx
    [backend-02] E: Couldn't find any package by regex 'nginx'
    [backend-02] Error: executed 2 commands
"""
OURS = """\
    [backend-02] Welcome
    [backend-02] error: it is no key
    [backend-02] hint: check who changed it
    [backend-02] Error: executed 0 commands
"""
DPKG = """\
    [backend-02] Setting up nginx (1.26.3-3) ...
    [backend-02] dpkg: error processing package nginx (--configure):
    [backend-02]  installed nginx package died
    [backend-02] Errors were encountered while processing:
    [backend-02]  nginx
    [backend-02] E: Sub-process /usr/bin/dpkg returned an error code (1)
"""
FULL = "    [backend-02] /dev/full: No space left on device\n"


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (APT, "Unable to locate package nginx"),
        (OURS, "it is no key"),
        (f"{APT}{OURS}", "it is no key"),
        (
            DPKG,
            "dpkg: error processing package nginx (--configure): installed nginx package died",
        ),
        (DPKG.partition(" (--configure):")[0], "dpkg: error processing package nginx"),
        (FULL, "/dev/full: No space left on device"),
        ("", "no reason was given"),
    ],
)
def test_a_failed_step_is_told_with_the_line_that_says_why(output: str, why: str) -> None:
    with pytest.raises(RolloutError) as caught:
        conclusion.report_outcome(
            fleet(2), executed(output=output, backend_02="Install nginx"), status()
        )
    assert caught.value.message == f"backend-02: Install nginx: {why}"


def hint_of(done: Executed, shown: Status, **changes: Any) -> str:
    with pytest.raises(RolloutError) as caught:
        conclusion.report_outcome(fleet(2, **changes), done, shown)
    return caught.value.hint


def test_what_a_failed_step_says_to_try_is_the_hint() -> None:
    serving = status(rows=(row("backend-01", "yes"),))
    done = executed(output=OURS, backend_02="The issuer's push key")
    assert hint_of(done, serving) == "check who changed it"
    other = OURS.replace("backend-02", "backend-01")
    done = executed(output=f"{OURS}{other}{other}", backend_02="A", backend_01="B")
    assert hint_of(done, serving) == "check who changed it"
    other = other.replace("hint: check", "hint: do not check")
    done = executed(output=f"{OURS}{other}", backend_02="A", backend_01="B")
    assert hint_of(done, serving) == (
        "backend-02: check who changed it; backend-01: do not check who changed it"
    )


def test_a_fleet_of_which_no_host_is_reached_is_told_host_by_host() -> None:
    lines = [
        line
        for name in ("backend-01", "backend-02", "balancer")
        for line in (f"[{name}] hint: is it up", f"[{name}] error: it does not answer")
    ]
    stopped = executed(output="\n".join([*lines, "--> pyinfra error: No hosts remaining!"]))
    stopped.run.status = 1
    with pytest.raises(HostError) as caught:
        execute._raise_what_stopped(stopped.run, fleet(2), Outcome())
    assert caught.value.message == (
        "backend-01: it does not answer; backend-02: it does not answer; "
        "balancer: it does not answer"
    )
    assert caught.value.hint == "is it up"


AGAIN = "fix this, then run the same command again"
SERVING = f"the rest of the fleet is in service; {AGAIN}"


@pytest.mark.parametrize(
    ("rows", "passthrough", "hint"),
    [
        ((row("backend-01", "yes"), row("backend-02", "-", proven=False)), True, SERVING),
        ((row("backend-01", "balancer: yes, balancer-02: disabled"),), True, SERVING),
        ((row("backend-01", "balancer: down: L4CON, balancer-02: yes"),), True, SERVING),
        ((row("backend-01", "-"),), False, SERVING),
        ((row("backend-01", "-"),), True, AGAIN),
        ((row("backend-01", "disabled"), row("203.0.113.10", "-")), True, AGAIN),
        ((row("backend-01", "down: it said yes"),), True, AGAIN),
        ((row("backend-01", "yes", proven=False),), True, AGAIN),
        ((row("backend-01", "-", proven=False),), False, AGAIN),
        ((), True, AGAIN),
    ],
)
def test_a_fleet_is_said_to_be_in_service_only_if_somebody_is(
    rows: tuple[Row, ...], passthrough: bool, hint: str
) -> None:
    shown = status("backend-03: no answer", rows=rows)
    assert hint_of(executed(), shown, passthrough=passthrough) == hint


def test_behind_somebody_elses_balancer_a_public_address_says_whether_anybody_serves() -> None:
    other = {"balancers": (), "balancer": Balancer(provider=Provider.NONE)}
    unseen = status("x: y", rows=(row("backend-01", "-"),))
    assert hint_of(executed(), unseen, **other) == AGAIN
    seen = status("x: y", rows=(row("203.0.113.10", "-"),))
    assert hint_of(executed(), seen, **other) == SERVING
