"""How a walk over the fleet ends: what is a failure of it, what is told, and what waits."""

from __future__ import annotations

from typing import Any

import pytest

from certsync.commands import walk
from certsync.commands.status import Status
from certsync.errors import LaterError, RolloutError
from certsync.plan import Step
from certsync.progress import Outcome
from certsync.pyinfra_run import Run
from tests.unit.fake_fleet import fleet

ORDER = Step("4 of 6: the certificate", "backend-01", "Order the certificate")
UNTOLD = "balancer: it tells no backend the client's address"
RECORDS = {"exit": 75, "error": "shop: it leads elsewhere", "hint": "shop. A 203.0.113.10"}
REFUSED = {"exit": 1, "error": "shop: the CA refused", "hint": "ask it why"}


def walked(*changed: Step) -> walk.Walked:
    # One that was never started: what it printed is asked for where a host failed, and none did.
    return walk.Walked(Run.__new__(Run), Outcome(changed=list(changed)))


def status(*findings: str, issue: dict[str, Any] | None = None) -> Status:
    state = {"runs": {"issue": issue}} if issue else {}
    untold = [each for each in findings if each == UNTOLD]
    return Status(fleet(2), [], list(findings), [], untold, state, [], "here", [], "")


def test_a_walk_after_which_all_is_well_ends_well() -> None:
    walk.conclude(fleet(2), walked(ORDER), status(issue={"exit": 0, "error": "", "hint": ""}))


def test_what_is_wrong_after_a_walk_is_its_failure() -> None:
    with pytest.raises(RolloutError, match=r"^backend-02: no answer$"):
        walk.conclude(fleet(2), walked(), status("backend-02: no answer"))


def test_an_order_of_one_lineage_that_failed_is_told_though_the_walk_went_on() -> None:
    with pytest.raises(RolloutError) as caught:
        walk.conclude(fleet(2), walked(ORDER), status(issue=REFUSED))
    assert caught.value.message == "backend-01: shop: the CA refused"
    assert caught.value.hint == "ask it why"


def test_one_that_waits_for_records_is_told_with_them_and_with_all_else_that_is_wrong() -> None:
    with pytest.raises(LaterError) as caught:
        walk.conclude(fleet(2), walked(ORDER), status("backend-02: self-signed", issue=RECORDS))
    assert caught.value.message == "shop: it leads elsewhere; backend-02: self-signed"
    assert caught.value.hint == "shop. A 203.0.113.10"


def test_an_order_that_failed_before_this_walk_is_no_failure_of_it() -> None:
    walk.conclude(fleet(2), walked(), status(issue=REFUSED))


def test_who_is_not_told_the_clients_address_fails_a_deploy_and_is_told_after_other_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(RolloutError, match=UNTOLD):
        walk.conclude(fleet(2), walked(), status(UNTOLD), whole=True)
    capsys.readouterr()
    walk.conclude(fleet(2), walked(), status(UNTOLD))
    assert f"warning: {UNTOLD}" in capsys.readouterr().err
