"""HAProxy on a balancer: what is written when, who is in the pools, what is sent nothing more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from certsync.model.errors import HostError
from certsync.model.fleet import Authority, Fleet
from certsync.model.options import Balancing, Firewall
from certsync.operator.balancer import gate
from certsync.operator.balancer.gate import Gate
from certsync.operator.hosts.facts import HostFacts
from certsync.operator.hosts.survey import Entry, Survey, Unit
from certsync.operator.rendering import templates
from deploy import balancer
from deploy.step import Change, Step
from tests.unit.fake_fleet import NAME, fleet

FLEET = fleet()
BALANCER = FLEET.balancers[0]
ALL = ("backend-01", "backend-02", "backend-03")
RUNS = Unit("active", "enabled", is_outdated=False)


def needed(steps: Iterable[Step]) -> list[str]:
    return [each.name for each in steps if each.script]


def has(*inside: str, port: int = 8443, made: Fleet = FLEET) -> Survey:
    """Return what a balancer is like that passes port 443 on to these backends."""
    members = {name: name in inside for name in ALL}
    told = dict.fromkeys(ALL, port)
    text = templates.haproxy(made, BALANCER, Gate(True, {NAME: members}, members, told))
    entries = {balancer.CONFIGURATION: Entry("f", text=text)}
    return Survey(entries=entries, units={"haproxy.service": RUNS})


def finished(made: Fleet) -> Survey:
    """Return what a balancer is like on which everything is done, and nobody proven yet."""
    steps = [*balancer.roots(made, Survey()), *balancer.configure(made, BALANCER, Survey())]
    entries = {}
    for each in steps:
        words = each.script.split() or ["nothing"]
        if words[0] == "place":
            size = len(each.text.encode())
            entries[words[2]] = Entry("f", words[3], "root", "root", each.text, size=size)
        elif words[0] == "install":
            entries[words[-1]] = Entry("d", words[3], words[5], words[7])
        elif words[0] == "configure_haproxy":
            entries[balancer.CONFIGURATION] = Entry("f", text=each.text)
    return Survey(entries=entries, units={"haproxy.service": RUNS})


def test_a_balancer_that_has_nothing_yet_gets_its_reload_before_its_configuration() -> None:
    assert needed(balancer.configure(FLEET, BALANCER, Survey())) == [
        "Program folder", "Program that saves the servers' states",
        "Folder of HAProxy's drop-in", "Reload that keeps the servers' states",
        "systemd reload", "haproxy.cfg",
    ]  # fmt: skip


def test_backends_that_answer_nothing_yet_are_not_waited_for() -> None:
    steps = balancer.configure(FLEET, BALANCER, Survey())
    assert "configure_haproxy file" in [each.script for each in steps]


def test_a_balancer_on_which_all_is_done_is_left_alone() -> None:
    assert needed(balancer.configure(FLEET, BALANCER, finished(FLEET))) == []


def test_a_drop_in_that_systemd_has_not_read_yet_is_read() -> None:
    seen = replace(finished(FLEET), units={"haproxy.service": replace(RUNS, is_outdated=True)})
    assert needed(balancer.configure(FLEET, BALANCER, seen)) == ["systemd reload"]


@pytest.mark.parametrize(
    ("origin", "adopt", "aside"),
    [("foreign", True, True), ("foreign", False, False), ("ours", True, False),
     ("distribution", True, False), ("", True, False)],
)  # fmt: skip
def test_a_configuration_is_put_aside_where_it_is_anothers_and_may_be_taken_over(
    origin: str, adopt: bool, aside: bool
) -> None:
    seen = Survey(HostFacts(haproxy=origin))
    names = needed(balancer.configure(FLEET, BALANCER, seen, adopt=adopt))
    assert ("Keep a copy of the other haproxy.cfg" in names) is aside
    # Copied, and not taken out: until ours takes its place, HAProxy goes on with it.
    scripts = [each.script for each in balancer.configure(FLEET, BALANCER, seen, adopt=adopt)]
    assert ("put_aside /etc/haproxy/haproxy.cfg" in scripts) is aside


def test_a_firewall_is_switched_on_where_the_fleet_file_says_so_with_the_way_in_left_open() -> None:
    seen = Survey(HostFacts(ufw="inactive"))
    machine = replace(BALANCER, ssh_port=2222)
    on = replace(FLEET, firewall=Firewall(enable=True))
    for made, ending in ((FLEET, []), (on, ["ufw allow 2222/tcp", "ufw --force enable"])):
        [*_, firewall] = balancer.configure(made, machine, seen)
        assert firewall.script.split(" &&\n") == [
            "ufw allow 80/tcp", "ufw allow 443/tcp", *ending
        ]  # fmt: skip


def test_roots_of_the_fleets_own_are_read_by_haproxy_when_they_change(tmp_path: Path) -> None:
    assert [*balancer.roots(FLEET, Survey())] == []
    path = tmp_path / "roots.pem"
    path.write_text("one\n")
    made = replace(FLEET, authority=Authority("https://ca", roots=str(path)))
    names = ["Roots for the health check", "HAProxy loads the new roots"]
    assert needed(balancer.roots(made, Survey())) == names
    seen = finished(made)
    assert needed(balancer.roots(made, seen)) == []
    path.write_text("two\n")
    assert needed(balancer.roots(made, seen)) == names
    # Its configuration changes too, so that a reload that was cut off is made up for.
    assert needed(balancer.configure(made, BALANCER, seen)) == ["haproxy.cfg"]


def test_roots_that_are_not_there_fail_what_names_them_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "roots.pem"
    made = replace(FLEET, authority=Authority("https://ca", roots=str(path)))
    for each in (*balancer.roots(made, Survey()), *balancer.configure(made, BALANCER, Survey())):
        names = ("Roots for the health check", "haproxy.cfg")
        assert ("No such file" in each.script) is (each.name in names)


def test_haproxy_that_does_not_run_is_started_unless_it_is_only_to_stop_sending() -> None:
    seen = replace(has(*ALL), units={})
    text = seen.text(balancer.CONFIGURATION)
    made = balancer.haproxy("it", lambda: text, seen)
    assert (made.script, made.changes) == (
        "running haproxy", (Change("haproxy.service", "stopped\n", "running\n"),)
    )  # fmt: skip
    assert balancer.haproxy("it", lambda: text, seen, started=False) == Step("it")


def test_a_configuration_that_cannot_be_made_leaves_the_one_that_is_there() -> None:
    def content() -> str:
        raise HostError("no such template", "look")

    made = balancer.haproxy("it", content, has(*ALL))
    assert (made.files, made.changes) == ({}, ())
    assert made.script.endswith(">&2; exit 1")


def off(made: Fleet, seen: Survey, *, without_client_address: bool = False) -> Step:
    [found] = balancer.drop_outgoing(
        made, BALANCER, seen, without_client_address=without_client_address
    )
    return found


def test_nothing_is_sent_less_where_nothing_goes_away() -> None:
    # What else changes waits for its own phase.
    slower = replace(FLEET, balancing=Balancing(slow_start_seconds=77))
    for seen in (has(*ALL), Survey()):
        assert off(slower, seen) == Step("Off what is about to go")


def test_a_port_that_gets_another_number_is_no_longer_sent_to() -> None:
    moved = replace(FLEET, balancing=Balancing(proxy_port=9443))
    after = gate.read(off(moved, has(*ALL)).text)
    assert after.ports == dict.fromkeys(ALL, 0)
    assert after.taking == ALL


def test_a_backend_that_is_to_serve_a_lineage_no_more_is_sent_nothing_of_it() -> None:
    fewer = fleet(serving=("backend-01", "backend-02"))
    made = off(fewer, has(*ALL))
    assert gate.read(made.text).taking == ("backend-01", "backend-02")
    assert made.script == "configure_haproxy file wait"


def test_a_balancer_that_is_trusted_no_more_tells_nobody_the_clients_address() -> None:
    after = gate.read(off(FLEET, has(*ALL), without_client_address=True).text)
    assert (after.ports, after.taking) == (dict.fromkeys(ALL, 0), ALL)
    # One that tells nobody has nothing to stop, and what else changes waits for its own phase.
    slower = replace(FLEET, balancing=Balancing(slow_start_seconds=77))
    assert off(slower, has(*ALL, port=0), without_client_address=True) == Step(
        "Off what is about to go"
    )


def test_a_backend_that_left_goes_from_the_pools_and_the_others_are_as_proven_as_before() -> None:
    fewer = replace(FLEET, backends=FLEET.backends[:2])
    [made] = balancer.without(fewer, BALANCER, has("backend-02", "backend-03"))
    assert gate.read(made.text).pools == {NAME: {"backend-01": False, "backend-02": True}}
    assert "backend-03" not in made.text


def test_a_balancer_takes_as_many_connections_as_its_memory_is_good_for() -> None:
    small, large = (Survey(memory_kib=str(gib << 20), open_files="1000000") for gib in (1, 4))
    texts = [balancer.configuration(FLEET, BALANCER, seen) for seen in (Survey(), small, large)]
    limits = [
        [int(line.split()[1]) for line in text.splitlines() if line.strip().startswith("maxconn ")]
        for text in texts
    ]
    assert limits[0] == []
    assert limits[1] < limits[2]


def test_which_pools_there_would_be_is_told_in_a_dry_run_alone(
    events: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = fleet(serving=("backend-01",))
    balancer.tell_gates(fewer, BALANCER, has(*ALL))
    assert events() == []
    monkeypatch.setenv("CERTSYNC_DRY", "1")
    balancer.tell_gates(fewer, BALANCER, has(*ALL))
    [told] = events()
    assert (told["event"], told["host"]) == ("gate", "balancer")
    assert told["before"]["pools"] == {NAME: dict.fromkeys(ALL, True)}
    assert told["after"]["pools"] == {NAME: {"backend-01": True}}
