"""What a dry run says it would do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from certsync.operator.balancer.foreseen import pools
from certsync.operator.balancer.gate import Gate
from certsync.operator.deployment.dependents import completed
from certsync.operator.deployment.plan import FileChange, Plan, Step, deviations, diff, planned
from tests.unit.fake_fleet import NAME, fleet


def operation(name: str, *hosts: str) -> dict[str, Any]:
    """Return what a dry run foresees of an operation or of one of its steps."""
    return {"name": name, "hosts": list(hosts)}


OPERATIONS = [
    {"phase": "1 of 6: packages"},
    operation("Install nginx", "backend-01", "backend-02"),
    {"phase": "2 of 6: nginx on every backend"},
    {"phase": "3 of 6: the way"},
    operation("Order the certificate", "backend-01"),
]
WAY = "3 of 6: the way"
TRUE, FALSE = {"backend-01": True}, {"backend-01": False}


def test_a_dry_run_tells_what_would_change_on_which_host_and_nothing_else() -> None:
    assert Plan(planned(OPERATIONS)).text().splitlines() == [
        "1 of 6: packages",
        "    Install nginx: backend-01, backend-02",
        "3 of 6: the way",
        "    Order the certificate: backend-01",
    ]


def test_a_dry_run_on_a_finished_fleet_says_so() -> None:
    finished = [{**each, "hosts": []} for each in OPERATIONS]
    assert Plan(planned(finished)).text() == "nothing would be changed"


def test_what_only_shows_on_the_way_is_listed_as_depending_on_it() -> None:
    steps = completed([Step("2 of 6", "backend-02", "nginx")], fleet(2))
    told = [(each.host, each.what, each.depends) for each in steps[1:]]
    assert told == [
        ("backend-01", "Replicate the certificate", "which backends lack the generation by then"),
        ("backend-01", "Share session ticket keys", "which backends lack the keys by then"),
        ("balancer", "Passthrough", "what is proven by then"),
    ]


def test_what_others_come_before_is_listed_once_and_as_depending_on_them() -> None:
    steps = [Step("6", "balancer", "Passthrough"), Step("2", "balancer", "haproxy.cfg")]
    told = completed(steps, fleet(2))
    assert [(each.what, each.depends) for each in told] == [
        ("haproxy.cfg", ""),
        ("Passthrough", "what is proven by then"),
    ]
    assert completed(steps[:1], fleet(2)) == tuple(steps[:1])
    assert len(completed(steps, fleet(2), absent=["Passthrough"])) == 2


@pytest.mark.parametrize("of", ["", " of shop.example.net"])
def test_a_placeholder_of_any_lineage_is_followed_by_its_certificate(of: str) -> None:
    steps = [Step("2 of 6", "backend-02", f"Placeholder certificate, generation 0000{of}")]
    assert "Replicate the certificate" in [each.what for each in completed(steps, fleet(2))]


def test_an_operation_that_only_begins_alike_is_followed_by_nothing() -> None:
    steps = [Step("2 of 6", "backend-02", "nginx's own log")]
    assert completed(steps, fleet(2)) == tuple(steps)


def test_what_may_have_been_written_on_leaving_a_port_is_listed_as_depending_on_it() -> None:
    steps = [
        Step("1", "balancer", "Off what is about to go"),
        Step("2 of 6: port 80", "balancer", "haproxy.cfg"),
    ]
    told = [(each.what, each.depends) for each in completed(steps, fleet(2))]
    assert told == [
        ("Off what is about to go", ""),
        ("haproxy.cfg", "what has been written by then"),
        ("Passthrough", "what is proven by then"),
    ]


def test_the_diff_of_a_file_shows_no_heartbeat() -> None:
    before = '{"a": 1,\n"heartbeat_url": "https://monitor.example/secret-1"}'
    after = '{"a": 2,\n"heartbeat_url": "https://monitor.example/secret-2"}'
    shown = diff(FileChange("backend-01", "/etc/certsync/fleet.json", before, after))
    assert shown.splitlines()[1:3] == ['-{"a": 1,', '+{"a": 2,']
    assert "secret" not in shown
    fleet_file = 'heartbeat_url = "https://monitor.example/secret-3"\n\n[backends.b]\n'
    written = FileChange("here", "fleet.toml", "", "")
    assert "secret" not in diff(replace(written, before=fleet_file, after=fleet_file + "x = 1\n"))


def test_a_new_file_is_shown_with_its_length_and_its_first_lines() -> None:
    text = "".join(f"{number}\n" for number in range(30))
    new = FileChange("backend-01", "/etc/x", "", text)
    assert diff(new).splitlines()[1:3] == ["+0", "+1"]
    shown = Plan(files=(new,)).text().splitlines()
    assert shown[-15:-12] == ["files", "    /etc/x (backend-01): new, 30 lines", "        +0"]
    assert shown[-2:] == ["        +11", "        … 18 more lines"]


def test_a_file_that_goes_is_shown_as_deleted() -> None:
    gone = FileChange("backend-01", "/etc/x", "a\nb\n", "")
    shown = Plan(files=(gone,)).text().splitlines()
    assert shown[-3:] == ["    /etc/x (backend-01): deleted, 2 lines", "        -a", "        -b"]


def test_what_roots_shell_would_be_given_is_shown_once_for_all_that_get_the_same() -> None:
    scripts = (("b", "# nginx\nrunning nginx"), ("a", "x"), ("c", "# nginx\nrunning nginx"))
    plan = Plan((Step("1", "b", "nginx"),), scripts=scripts)
    assert plan.text().splitlines()[-6:] == [
        "commands run as root on the hosts",
        "    b, c:", "        # nginx", "        running nginx",
        "    a:", "        x",
    ]  # fmt: skip
    assert plan.to_json()["scripts"][1] == {"host": "a", "script": "x"}


def test_a_file_that_changes_alike_on_many_hosts_is_shown_once() -> None:
    files = tuple(FileChange(f"backend-0{n}", "/etc/x", "a\n", "b\n") for n in (1, 2))
    assert Plan(files=files).text().splitlines()[-4:] == [
        "    /etc/x (backend-01, backend-02):",
        "        @@ -1 +1 @@",
        "        -a",
        "        +b",
    ]


def test_pools_are_told_before_and_after() -> None:
    was = Gate(True, {NAME: TRUE}, TRUE)
    will = Gate(True, {NAME: {**TRUE, "backend-02": False}}, {**TRUE, "backend-02": False})
    assert pools("balancer", was, will, fleet(2)) == (
        "balancer: passthrough rule: on",
        "balancer: tls: backend-01 in, backend-02 not there -> in, once it is proven",
        "balancer: port 80: backend-01 in, backend-02 not there -> in, once it is proven",
    )


def test_a_backend_that_leaves_is_told_as_out_and_a_rule_that_waits_as_waiting() -> None:
    first = pools(
        "balancer", Gate(False, {NAME: {}}, {}), Gate(False, {NAME: FALSE}, TRUE), fleet(1)
    )
    assert first[0] == "balancer: passthrough rule: off -> on, once a backend is proven"
    assert first[2] == "balancer: port 80: backend-01 not there -> in"
    left = pools("balancer", Gate(True, {NAME: TRUE}, TRUE), Gate(True, {NAME: {}}, {}), fleet(1))
    assert left[1] == "balancer: tls: backend-01 in -> out"


def test_a_run_that_does_more_or_less_than_planned_is_reported() -> None:
    plan = [Step("1", "a", "sure"), Step("1", "a", "perhaps", "something"), Step("1", "b", "sure")]
    assert deviations(plan, {("a", "sure"), ("b", "sure")}) == []
    assert deviations(plan, {("a", "sure"), ("a", "more")}) == [
        "not planned: a: more",
        "planned but not done: b: sure",
    ]
