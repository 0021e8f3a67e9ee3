"""A fleet behind a provider's balancer, driven by its API: the whole road, with real handshakes.

The API is a double's; see `cloud`. What HAProxy does comes from the double's state alone.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from signal import SIGKILL

import pytest

from lab import Lab
from tests.doubles.contract import Fault
from tests.e2e.behind import (
    Overheard,
    another_certificate,
    deploying,
    killing,
    loaded,
    loudly,
    refused_for_its_gap,
    spread,
    watched,
    well,
)
from tests.e2e.cloud import Cloud, running
from tests.e2e.clouds import TOKEN
from tests.e2e.clouds_all import PROVIDERS
from tests.e2e.conftest import BringUp
from tests.e2e.road import NAME, Road, state

pytestmark = pytest.mark.matrix
THREE = frozenset({"backend-01", "backend-02", "backend-03"})
FOURTH = "backend-04"


@pytest.fixture(scope="module", params=list(PROVIDERS))
def cloud(
    request: pytest.FixtureRequest, bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cloud]:
    """Return a provider with a balancer in front of three empty hosts; a fourth is there."""
    name: str = request.param
    with bring_up(Lab(f"m{name[:10]}", backends=4)) as lab:
        road = Overheard(lab, tmp_path_factory.mktemp(name))
        with running(road, name) as made:
            yield made


@pytest.fixture
def road(cloud: Cloud) -> Road:
    """Return the fleet, and forget what was asked of the balancer before."""
    cloud.forget()
    return cloud.road


def test_a_wrong_token_is_told_before_anything_is_changed(cloud: Cloud, road: Road) -> None:
    before = state(road.lab)
    [variable] = [name for name, value in cloud.environment.items() if value == TOKEN]
    road.environment = {**cloud.environment, variable: "not-the-token"}
    ended = road.deploy()
    road.environment = {**cloud.environment, variable: ""}
    without = road.deploy()
    road.environment = cloud.environment
    assert (ended.status, without.status) == (1, 1)
    told = cloud.provider.variable or variable
    assert told in ended.stderr
    assert told in without.stderr
    assert cloud.provider.tokenless in without.stderr
    assert state(road.lab) == before
    assert cloud.double.changing == []


def test_a_dry_run_asks_and_changes_nothing(cloud: Cloud, road: Road) -> None:
    dry = well(road.deploy("--dry-run"))
    assert "load balancer" in dry.stdout
    assert cloud.double.calls
    assert cloud.double.changing == []


def test_the_first_deploy_ends_with_every_backend_proven_and_behind_the_balancer(
    cloud: Cloud, road: Road
) -> None:
    well(road.deploy())
    print(*cloud.double.changing, sep="\n")
    assert spread(road, THREE)
    assert road.generations() == dict.fromkeys(THREE, "0001")
    assert cloud.is_open
    assert cloud.pool == THREE
    moments = list(cloud.moments)
    if cloud.provider.shared_pool:
        # The CA's challenges come by the same pool: the issuer alone is there before its order.
        alone = [each for each in moments if each.pool <= {"backend-01"}]
        assert moments[: len(alone)] == alone
        assert alone[-1].pool == {"backend-01"}
        assert not any(each.is_open for each in alone)
        moments = moments[len(alone) :]
        assert [each.is_open for each in moments] == [*[False] * (len(moments) - 1), True]
    assert all(each.serving == each.pool for each in moments)


def test_the_fleet_is_as_it_should_be_and_a_second_deploy_changes_nothing(
    cloud: Cloud, road: Road
) -> None:
    well(road.deploy())
    assert cloud.double.changing == []
    assert cloud.moments == []
    well(road.certsync("status"))
    assert {row["pool"] for row in road.status()["rows"] if row["name"] in THREE} == {"yes"}


def test_rules_tell_that_nothing_is_to_be_done(cloud: Cloud, road: Road) -> None:
    shown = well(road.certsync("rules"))
    assert "the next deploy would change nothing there" in shown.stdout
    assert cloud.double.changing == []


def test_silence_of_a_probe_changes_nothing(cloud: Cloud, road: Road) -> None:
    last, rule = road.lab.machine("backend-03"), "INPUT -p tcp --dport 443 -j DROP"
    sources = f"-s {road.issuer.address}"
    last.sh(f"iptables -I {rule} {sources}")
    try:
        ended = road.deploy()
    finally:
        last.sh(f"iptables -D {rule} {sources}")
    assert ended.status != 0
    assert "backend-03" in ended.stderr
    assert cloud.double.changing == []
    assert cloud.pool == THREE
    assert spread(road, THREE)


def test_a_backend_that_serves_another_certificate_gets_no_traffic(
    cloud: Cloud, road: Road
) -> None:
    new = road.lab.machine(FOURTH)
    with another_certificate(new):
        ended = road.certsync("add-backend", FOURTH, new.address)
    assert ended.status != 0, ended.everything
    assert FOURTH in ended.stderr
    assert cloud.moments == []
    assert cloud.pool == THREE
    assert spread(road, THREE)


def test_a_backend_joins_once_it_is_proven_and_leaves_before_its_key_is_deleted(
    cloud: Cloud, road: Road
) -> None:
    new = road.lab.machine(FOURTH)
    with loaded(road) as over:
        well(road.certsync("add-backend", FOURTH, new.address))
        [joined] = cloud.moments
        assert spread(road, {*THREE, FOURTH})
        cloud.forget()
        well(road.certsync("remove-backend", FOURTH, "--drain-seconds", "5"))
        tally = over()
    assert joined.serving == joined.pool == {*THREE, FOURTH}
    left = cloud.moments[-1]
    assert left.pool == THREE
    assert FOURTH in left.holding
    if cloud.provider.drains:
        gone = [frozenset[str]()] * (not cloud.provider.leaves_by_itself)
        assert [each.leaving for each in cloud.moments] == [{FOURTH}, *gone]
    assert tally.failed == {}
    assert FOURTH in tally.backends


def test_another_backend_becomes_the_issuer_and_the_balancer_is_left_alone(
    cloud: Cloud, road: Road
) -> None:
    well(road.certsync("promote", "backend-02"))
    assert road.issuer.name == "backend-02"
    assert cloud.double.changing == []
    assert spread(road, THREE)


def test_a_renewal_loses_no_request(cloud: Cloud, road: Road) -> None:
    before = road.leaf(road.lab.balancer.address)
    with loaded(road) as over:
        well(road.renew("--force"))
        tally = over()
    assert tally.failed == {}
    assert road.leaf(road.lab.balancer.address) != before
    assert cloud.double.calls == []


def test_the_proxy_protocol_goes_off_and_on_and_port_443_is_closed_no_longer_than_was_said(
    cloud: Cloud, road: Road
) -> None:
    if not cloud.provider.proxy:
        text = road.fleet_file.read_text()
        road.edit("[balancing]\n", "[balancing]\nproxy_protocol = true\n")
        assert road.deploy().status == 2
        road.fleet_file.write_text(text)
        return
    gap = cloud.provider.gap_seconds
    with loaded(road) as over, watched(road.lab) as closed:
        for before, after in (
            ("[balancing]\n", "[balancing]\nproxy_protocol = false\n"),
            ("proxy_protocol = false\n", ""),
        ):
            road.edit(before, after)
            if gap:
                refused_for_its_gap(cloud, road)
            well(road.deploy(*(["--accept-gap"] if gap else [])))
        tally = over()
    if gap:
        print("closed for", closed)
        assert len(closed) == 2
        assert max(closed) <= gap
        assert all(each.startswith("ConnectionRefusedError") for each in tally.failed)
    else:
        assert (tally.failed, closed) == ({}, [])
    assert len(cloud.moments) == (4 if gap else 2)
    done = road.operator(
        "curl", "-sS", "--cacert", str(road.lab.ca.roots), f"https://{NAME}/lb.html?proxied"
    )
    assert done.status == 0
    logs = [each.sh("grep -F proxied /var/log/nginx/access.log || :") for each in road.backends]
    assert "".join(logs).split()[0] in {"203.0.113.1", "2001:db8:113::1"}


def test_rules_and_a_dry_run_tell_of_one_that_something_else_has_taken_out(
    cloud: Cloud, road: Road
) -> None:
    cloud.provider.take_out(road.lab.machine("backend-03").address)
    cloud.follow()
    shown = road.certsync("rules")
    assert "the next deploy would change: backend-03: gets traffic" in shown.stdout
    rows = {row["name"]: row["pool"] for row in road.status()["rows"]}
    assert rows["backend-03"] == "not a member"
    assert cloud.double.changing == []
    well(road.as_announced("deploy"))
    assert cloud.pool == THREE


def test_the_same_command_makes_up_for_what_another_writer_or_the_provider_has_spoilt(
    cloud: Cloud, road: Road
) -> None:
    last = road.lab.machine("backend-03")
    on, words = cloud.provider.changing, cloud.provider.internal
    for what, fault in {
        "busy": cloud.provider.busy,
        "an error after the change": Fault(on, status=500, words=words, carried_out=True),
        "an error before the change": Fault(on, status=500, words=words),
        "no answer": Fault(on, cut=True),
    }.items():
        cloud.provider.take_out(last.address)
        cloud.follow()
        cloud.double.faults = [fault]
        ended = road.deploy()
        assert cloud.double.faults in ([], [cloud.provider.busy]), f"{what}: nothing was asked"
        cloud.double.faults = []
        if ended.status != 0:
            print(what, "took two commands")
            ended = road.deploy()
        well(ended)
        assert cloud.pool == THREE, what
    assert spread(road, THREE)


def test_a_deploy_that_dies_in_the_middle_of_a_call_is_finished_by_the_next(
    cloud: Cloud, road: Road
) -> None:
    for name in ("backend-02", "backend-03"):
        cloud.provider.take_out(road.lab.machine(name).address)
    cloud.follow()
    dying = deploying(cloud)
    # The first call is carried out, and nobody is left to hear of it.
    cloud.double.faults = [Fault(cloud.provider.changing, cut=True, meanwhile=killing(dying))]
    assert dying.wait(120) == -SIGKILL
    cloud.double.faults = []
    assert cloud.is_open
    assert "backend-01" in cloud.pool
    well(road.deploy())
    assert cloud.pool == THREE
    assert spread(road, THREE)


def test_what_is_not_ours_is_as_it_was_all_along(cloud: Cloud) -> None:
    assert cloud.foreign() == {}


def test_the_token_is_in_no_file_of_any_host_and_in_nothing_that_was_printed(road: Road) -> None:
    assert isinstance(road, Overheard)
    loud = loudly(road, "status")
    assert "DEBUG" in loud.stderr
    assert TOKEN not in road.said
    folders = [road.folder, *(each.layer for each in road.lab.machines)]
    found = subprocess.run(
        ["grep", "-rlF", TOKEN, *map(str, folders)], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (1, ""), found.stderr
    for machine in road.lab.machines:
        pieces = f"{TOKEN[:9]}''{TOKEN[9:]}"
        environments = "cat /proc/[0-9]*/environ 2>/dev/null"
        assert machine.sh(f"{environments} | grep -caF {pieces} || :").strip() == "0"
