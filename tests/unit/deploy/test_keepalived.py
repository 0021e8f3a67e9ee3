"""Virtual addresses on balancers: keepalived where they are, and nothing of ours where not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from certsync.model.fleet import Fleet
from certsync.model.options import Balancer
from certsync.operator.hosts.facts import MARK, HostFacts
from certsync.operator.hosts.survey import Entry, Survey, Unit
from deploy import keepalived
from deploy.step import Change, Step
from tests.unit.fake_fleet import fleet, machine
from tests.unit.steps import program, taken

V4, V6 = "203.0.113.100", "2001:db8:113::100"
ADDRESSES = (("lo", "127.0.0.1"), ("eth1", "203.0.113.70"), ("eth1", V4))
RUNS = Unit("active", "enabled", is_outdated=False)
DROP_IN = f"{keepalived.DROP_IN}/certsync.conf"


def of(*addresses: str, balancers: int = 2) -> Fleet:
    hosts = tuple(machine(f"balancer-0{n}", 70 + n) for n in range(balancers))
    return fleet(balancers=hosts, balancer=Balancer(virtual_addresses=addresses))


def configured(made: Fleet, seen: Survey) -> dict[str, Step]:
    steps = keepalived.configure(made, made.balancers[0], seen)
    return {each.name: each for each in steps}


def needed(steps: Iterable[Step]) -> list[str]:
    return [each.name for each in steps if each.script]


def finished(made: Fleet) -> Survey:
    """Return what a balancer is like on which everything of keepalived's is done."""
    steps = configured(made, Survey(addresses=ADDRESSES))
    entries = {keepalived.DROP_IN: Entry("d", "755", "root", "root")}
    for name, path, mode in (
        ("HAProxy check script", keepalived.SCRIPT, "755"),
        ("keepalived's restart policy", DROP_IN, "644"),
        ("keepalived.conf", keepalived.CONFIGURATION, "644"),
    ):
        text = steps[name].text
        entries[path] = Entry("f", mode, "root", "root", text, size=len(text.encode()))
    return Survey(entries=entries, addresses=ADDRESSES, units={"keepalived.service": RUNS})


def test_keepalived_is_installed_where_addresses_are_shared_and_nowhere_else() -> None:
    assert needed(keepalived.packages(of(), Survey())) == []
    [made] = keepalived.packages(of(V4), Survey())
    assert made.script == "packages keepalived"
    assert needed(keepalived.packages(of(V4), Survey(packages=frozenset({"keepalived"})))) == []


def test_a_balancer_that_has_nothing_yet_gets_everything_in_an_order_that_starts_it_once() -> None:
    steps = configured(of(V4, V6), Survey(addresses=ADDRESSES))
    assert needed(steps.values()) == [
        "Folder of keepalived's drop-in", "HAProxy check script", "keepalived's restart policy",
        "systemd reload", "keepalived.conf",
    ]  # fmt: skip
    made = steps["keepalived.conf"]
    # socat, which asks whether somebody has them, takes IPv6 addresses in brackets.
    assert made.script == f"configure_keepalived file {V4} '[{V6}]'"
    assert f"{V4}/32 dev eth1\n" in made.text


def test_a_balancer_on_which_all_is_done_is_left_alone() -> None:
    assert needed(configured(of(V4), finished(of(V4))).values()) == []


def test_another_address_changes_what_names_it_and_nothing_else() -> None:
    steps = configured(of(V4, V6), finished(of(V4)))
    assert needed(steps.values()) == [
        "keepalived's restart policy", "systemd reload", "keepalived.conf"
    ]  # fmt: skip
    [change] = steps["keepalived.conf"].changes
    assert (change.path, V6 in change.before, V6 in change.after) == (
        keepalived.CONFIGURATION, False, True
    )  # fmt: skip


def test_a_keepalived_that_is_stopped_is_started_and_a_dry_run_says_that_alone() -> None:
    stopped = replace(
        finished(of(V4)), units={"keepalived.service": replace(RUNS, active="failed")}
    )
    steps = configured(of(V4), stopped)
    assert needed(steps.values()) == ["keepalived.conf"]
    assert steps["keepalived.conf"].changes == (
        Change("keepalived.service", "stopped\n", "running\n"),
    )


def test_a_keepalived_that_does_not_start_at_boot_is_not_as_it_should_be() -> None:
    units = {"keepalived.service": replace(RUNS, enabled="disabled")}
    assert needed(configured(of(V4), replace(finished(of(V4)), units=units)).values()) == [
        "keepalived.conf"
    ]


def test_a_start_that_was_interrupted_is_made_up_for() -> None:
    seen = finished(of(V4))
    seen = replace(seen, entries={**seen.entries, keepalived.UNFINISHED: Entry("f")})
    made = configured(of(V4), seen)["keepalived.conf"]
    assert (bool(made.script), made.changes) == (True, ())


def test_a_balancer_without_its_private_address_is_told_what_to_correct(tmp_path: Path) -> None:
    made = configured(of(V4), Survey(addresses=(("eth0", "192.0.2.1"),)))["keepalived.conf"]
    done = taken(tmp_path, made.script)
    assert (done.returncode, done.stderr) == (
        1,
        (
            "no interface of this host has the address 203.0.113.70, so the virtual addresses "
            "cannot be assigned: correct its private_address in the fleet file\n"
        ),
    )


def given_up(
    folder: Path, there: dict[str, Entry], systemctl: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Give keepalived up in a folder in the place of /, and return how and which files are left."""
    made = configured(of(), Survey(entries=there))["No virtual addresses"]
    for path in (keepalived.CONFIGURATION, keepalived.SCRIPT, DROP_IN):
        here = folder / path[1:]
        here.parent.mkdir(parents=True, exist_ok=True)
        here.write_text("ours\n")
    program(folder, "systemctl", systemctl)
    unfinished = f"KEEPALIVED_UNFINISHED={folder}/unfinished\n"
    done = taken(folder, unfinished + made.script.replace("/etc/", f"{folder}/etc/"))
    left = [each for each in (folder / "etc").rglob("*") if each.is_file()]
    return done, [f"/{each.relative_to(folder)}" for each in left]


@pytest.mark.parametrize(
    "there",
    [
        {keepalived.CONFIGURATION: Entry("f", text=f"# {MARK}; changes are lost\n")},
        # The run that was to write the configuration was cut off before it did.
        {DROP_IN: Entry("f", text="")},
    ],
)
def test_a_balancer_without_virtual_addresses_gives_keepalived_up(
    there: dict[str, Entry], tmp_path: Path
) -> None:
    done, left = given_up(tmp_path, there, f'echo "$@" >> {tmp_path}/asked')
    assert (done.returncode, done.stderr, left) == (0, "", [])
    assert not (tmp_path / keepalived.DROP_IN[1:]).exists()
    assert (tmp_path / "asked").read_text() == "disable -q --now keepalived\ndaemon-reload\n"


def test_a_keepalived_that_is_half_given_up_is_still_known_as_ours(tmp_path: Path) -> None:
    there = {keepalived.CONFIGURATION: Entry("f", text=f"# {MARK}; changes are lost\n")}
    done, left = given_up(tmp_path, there, '[ "$1" != daemon-reload ]')
    assert (done.returncode, left) == (1, [keepalived.CONFIGURATION])


def test_somebody_elses_keepalived_stays_where_the_fleet_shares_no_addresses() -> None:
    # A mark below the first line is a comment about us, and does not make the file ours.
    text = f"global_defs {{\n# {MARK}, once\n}}\n"
    seen = Survey(entries={keepalived.CONFIGURATION: Entry("f", text=text)})
    assert needed(configured(of(), seen).values()) == []


def test_balancers_hear_vrrp_from_each_other_only_where_they_share_addresses() -> None:
    peer = "allow from 203.0.113.71 to any port 10000 proto tcp comment 'certsync balancers'"
    vrrp = "allow from 203.0.113.71 proto vrrp comment 'certsync balancers'"
    for made, rules in ((of(), [peer]), (of(V4), [peer, vrrp]), (of(V4, balancers=1), [])):
        assert keepalived.rules(made, made.balancers[0]) == rules


def with_rules(*rules: str, ufw: str = "active") -> Survey:
    return Survey(HostFacts(ufw=ufw), rules=rules)


def test_what_was_heard_from_a_balancer_that_is_no_more_is_closed_and_a_persons_rule_stays() -> (
    None
):
    gone = "allow from 203.0.113.79 proto vrrp comment 'certsync balancers'"
    seen = with_rules(gone, "allow from 203.0.113.78 proto vrrp", "allow 22/tcp comment 'mine'")
    made = configured(of(), seen)["Firewall between balancers"]
    assert made.script.splitlines() == [
        f"ufw {keepalived.rules(of(), of().balancers[0])[0]} &&", f"ufw delete {gone}"
    ]  # fmt: skip


def test_an_inactive_firewall_gets_the_rules_and_is_not_switched_on_by_them() -> None:
    made = keepalived.heard("it", ["allow from 203.0.113.71"], with_rules(ufw="inactive"))
    assert made.script == "ufw allow from 203.0.113.71"
    assert not keepalived.heard("it", ["allow from 203.0.113.71"], with_rules(ufw="")).script


def test_a_balancer_without_its_private_address_keeps_the_drop_in_that_it_has() -> None:
    steps = configured(of(V4), replace(finished(of(V4)), addresses=(("eth0", "192.0.2.1"),)))
    assert needed(steps.values()) == ["keepalived.conf"]
