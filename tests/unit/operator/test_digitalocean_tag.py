"""More than ten droplets at DigitalOcean: a tag of ours takes the place of their ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest

from certsync.operator.balancer.managed.decide import Wanted
from certsync.operator.balancer.managed.digitalocean_pool import Pool
from certsync.operator.balancer.managed.errors import BusyError, ManagedError
from certsync.operator.balancer.managed.port import Admit, Member, Remove
from tests.doubles.contract import Fault
from tests.doubles.digitalocean import BALANCER, balancer, droplet
from tests.unit.fake_cloud import ADDRESSES, OURS_ON_TLS, RULE, Cloud, foreign, running

TAG = f"certsync-{BALANCER}"
STRAY = 112
ELEVEN = list(range(101, 112))


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running() as made:
        yield made


def members(cloud: Cloud) -> list[int]:
    """Return the droplets that get traffic."""
    return sorted(cloud.double._told(cloud.balancer)["droplet_ids"])


def others(before: Any, cloud: Cloud) -> dict[str, Any]:
    """Return what has changed that is not ours; the tag and the droplets' tags are."""
    found = foreign(before, cloud)
    assert _without_tags(cloud.double.state) == _without_tags(before)
    return {place: each for place, each in found.items() if place not in TAGS}


TAGS = {"balancer.tag", "droplets", "tags"}


def _without_tags(state: Any) -> list[Any]:
    return [{**each, "tags": set(each["tags"]) - {TAG}} for each in state["droplets"]]


@pytest.fixture
def stray(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have our tag on a droplet that is not proven, and watch that it never gets traffic."""
    cloud.double.state["tags"] = [TAG]
    cloud.double.state["droplets"][-1]["tags"] = ["blue", TAG]
    take = cloud.double.take

    def watched(*arguments: Any) -> Any:
        answer = take(*arguments)
        assert STRAY not in members(cloud)
        return answer

    monkeypatch.setattr(cloud.double, "take", watched)


@pytest.mark.usefixtures("stray")
def test_the_eleventh_comes_with_a_tag_that_no_other_droplet_has(cloud: Cloud) -> None:
    cloud.ready(10)
    assert cloud.balancer["tag"] == ""
    before = deepcopy(cloud.double.state)
    cloud.drive(11)
    assert members(cloud) == ELEVEN
    assert others(before, cloud) == {}
    assert cloud.balancer["tag"] == TAG
    done = [each for each in cloud.double.changing if each.status < 400]
    assert [(each.method, each.path.rpartition("/")[2]) for each in done] == [
        ("POST", "tags"), ("DELETE", "resources"), ("POST", "resources"), ("PUT", BALANCER),
        ("POST", "resources"),
    ]  # fmt: skip
    assert cloud.double.state["droplets"][-1]["tags"] == ["blue"]


def test_eleven_come_at_once(cloud: Cloud) -> None:
    before = deepcopy(cloud.double.state)
    cloud.drive(11)
    assert members(cloud) == ELEVEN
    assert others(before, cloud) == {}
    assert cloud.balancer["forwarding_rules"][-1] == OURS_ON_TLS


def test_with_the_tag_they_come_and_go_and_it_stays(cloud: Cloud) -> None:
    cloud.ready(11)
    before = deepcopy(cloud.double.state)
    cloud.drive(11)
    assert cloud.double.changing == []
    cloud.drive_to(Wanted(RULE, {"backend-12": "10.0.0.12"}, ADDRESSES))
    assert members(cloud) == [112]
    assert {each.path for each in cloud.double.changing} == {f"/v2/tags/{TAG}/resources"}
    assert others(before, cloud) == {}
    cloud.drive(0, None)
    assert members(cloud) == []


@pytest.mark.usefixtures("stray")
@pytest.mark.parametrize(
    "fault",
    [
        lambda on: Fault(on, 500),
        lambda on: Fault(on, 500, carried_out=True),
        lambda on: Fault(on, cut=True),
        lambda on: Fault(on, 422, "no", carried_out=True),
        lambda on: Fault(on, 403, "You are not authorized"),
    ],
    ids=["500", "500 after", "cut", "422 after", "403"],
)
@pytest.mark.parametrize(
    ("on", "passing"),
    [
        ("POST /v2/tags", 0), ("DELETE */resources", 0), ("POST */resources", 0), ("PUT *", 0),
        ("POST */resources", 1),
    ],
)  # fmt: skip
def test_a_fault_on_the_way_to_the_tag_and_the_same_command_ends_it(
    cloud: Cloud, on: str, passing: int, fault: Callable[[str], Fault]
) -> None:
    cloud.ready(10)
    cloud.double.takes = 0
    before = deepcopy(cloud.double.state)
    planted = fault(on)
    planted.passing = passing
    cloud.double.faults = [planted]
    try:
        cloud.drive(11)
    except ManagedError:
        assert set(range(101, 111)) <= set(members(cloud))
        assert others(before, cloud) == {}
        cloud.drive(11)
    assert cloud.double.faults == []
    assert members(cloud) == ELEVEN
    assert others(before, cloud) == {}


@pytest.mark.parametrize(
    ("tagged", "here", "change"),
    [([1], [], Admit("backend-01", "10.0.0.1")), ([], [1], Remove(Member("10.0.0.1", "1")))],
)
def test_a_tag_that_the_balancer_has_not_looked_at_yet_is_waited_for(
    tagged: list[int], here: list[int], change: Admit | Remove
) -> None:
    told = {**balancer(tag=TAG, droplet_ids=here), "region": {"slug": "fra1"}}
    droplets = [droplet(1, "10.0.0.1", tags=[TAG] if 1 in tagged else [])]
    with pytest.raises(BusyError, match="its tag"):
        Pool(told, droplets, "/v2/load_balancers/1", TAG).requests([change])
