"""A load balancer at DigitalOcean fails in every way known, and is whole afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest

from certsync.operator.balancer.managed.digitalocean import api
from certsync.operator.balancer.managed.errors import (
    BusyError,
    ManagedError,
    NoSuchError,
    RefusedChangeError,
    RightError,
    TokenError,
)
from tests.doubles.contract import Fault
from tests.doubles.digitalocean import BUSY, HTTP
from tests.unit.fake_cloud import OURS_ON_TLS, TERMINATED, TOKEN, Cloud, foreign, running


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running() as made:
        yield made


FAULTS: list[tuple[Callable[[], Fault], type[ManagedError] | None, str]] = [
    (lambda: Fault("GET *", 401), TokenError, "does not accept the token"),
    (lambda: Fault("PUT *", 401), TokenError, "does not accept the token"),
    (lambda: Fault("POST *", 403, "You are not authorized"), RightError, "not authorized"),
    (lambda: Fault("POST *", 403, BUSY, seconds=30), None, ""),
    (lambda: Fault("P?? *", 403, BUSY, seconds=30), None, ""),
    (lambda: Fault("PUT *", 403, BUSY, seconds=9999), BusyError, "processes previous actions"),
    (lambda: Fault("GET *", 404), NoSuchError, "404"),
    (lambda: Fault("POST *", 404), NoSuchError, "404"),
    (lambda: Fault("PUT *", 409), None, ""),
    (lambda: Fault("PUT *", 422, "no"), ManagedError, "no"),
    (lambda: Fault("PUT *", 422, "no", carried_out=True), None, ""),
    (lambda: Fault("POST *", 422, "no", carried_out=True), None, ""),
    (lambda: Fault("PUT *", 429, headers={"Retry-After": "17"}), None, ""),
    (lambda: Fault("GET *", 429, headers={"Retry-After": "17"}), None, ""),
    (lambda: Fault("GET *", 500), ManagedError, "internal error"),
    (lambda: Fault("POST *", 500), None, ""),
    (lambda: Fault("POST *", 500, carried_out=True), None, ""),
    (lambda: Fault("PUT *", 500, carried_out=True), None, ""),
    (lambda: Fault("PUT *", 503), None, ""),
    (lambda: Fault("GET *", cut=True), ManagedError, "connection was lost"),
    (lambda: Fault("POST *", cut=True), None, ""),
    (lambda: Fault("PUT *", cut=True), None, ""),
]


@pytest.mark.parametrize(
    ("fault", "error", "words"), FAULTS, ids=[str(index) for index in range(len(FAULTS))]
)
def test_a_fault_leaves_it_whole_and_the_same_command_brings_it_there(
    cloud: Cloud, fault: Callable[[], Fault], error: type[ManagedError] | None, words: str
) -> None:
    before = deepcopy(cloud.double.state)
    # No change takes time, so that each fault meets a request that would be carried out.
    cloud.double.takes = 0
    cloud.double.faults = [fault()]
    if error:
        with pytest.raises(error, match=words) as told:
            cloud.drive(2)
        assert TOKEN not in f"{told.value!r} {told.value.hint}"
    else:
        cloud.drive(2)
    assert foreign(before, cloud) == {}
    cloud.double.faults = []
    cloud.drive(2)
    assert foreign(before, cloud) == {}
    assert cloud.balancer["droplet_ids"] == [101, 102]
    assert cloud.balancer["forwarding_rules"][-1] == OURS_ON_TLS


@pytest.mark.parametrize(
    "fault",
    [
        lambda: Fault("DELETE */droplets", 500, carried_out=True),
        lambda: Fault("DELETE */droplets", 422, "gone", carried_out=True),
        lambda: Fault("DELETE */droplets", cut=True),
        lambda: Fault("DELETE */forwarding_rules", 404, "gone", carried_out=True),
        lambda: Fault("DELETE */forwarding_rules", 502),
        lambda: Fault("DELETE */forwarding_rules", cut=True),
    ],
    ids=[str(index) for index in range(6)],
)
def test_a_fault_while_all_is_taken_out(cloud: Cloud, fault: Callable[[], Fault]) -> None:
    start = deepcopy(cloud.double.state)
    cloud.drive(1)
    cloud.time += 60
    cloud.double.takes = 0
    cloud.double.faults = [fault()]
    cloud.drive(0, None)
    assert cloud.double.faults == []
    assert foreign(start, cloud) == {}
    assert cloud.balancer["droplet_ids"] == []
    assert cloud.balancer["forwarding_rules"] == start["balancer"]["forwarding_rules"]


def test_a_limit_is_waited_out_for_as_long_as_it_says(cloud: Cloud) -> None:
    cloud.double.faults = [Fault("POST *", 429, headers={"Retry-After": "60"})]
    cloud.drive(1)
    assert cloud.time >= 1060


def firewall(state: dict[str, Any]) -> None:
    state["balancer"]["firewall"] = {"allow": [], "deny": ["cidr:198.51.100.0/24"]}


def test_another_writer_between_the_look_and_the_change_is_not_undone(cloud: Cloud) -> None:
    cloud.ready(1)
    cloud.balancer["health_check"]["port"] = 80
    before = deepcopy(cloud.double.state)
    # The first GET of the balancer is the look, the second is right before the change.
    cloud.double.faults = [Fault("GET /v2/load_balancers/*", passing=1, meanwhile=firewall)]
    cloud.drive(1)
    assert cloud.double.faults == []
    assert set(foreign(before, cloud)) == {"balancer.firewall.allow", "balancer.firewall.deny"}
    assert cloud.balancer["health_check"]["port"] == 443


def test_another_writers_rule_on_port_443_is_seen_before_it_is_overwritten(cloud: Cloud) -> None:
    def terminate(state: dict[str, Any]) -> None:
        state["balancer"]["forwarding_rules"] = [HTTP, TERMINATED]

    cloud.have(droplet_ids=[101])
    cloud.double.faults = [
        Fault("GET /v2/load_balancers/*", passing=1, meanwhile=terminate),
    ]
    with pytest.raises(RefusedChangeError, match="a rule that is not ours"):
        cloud.drive(1)
    assert cloud.balancer["forwarding_rules"] == [HTTP, TERMINATED]
    assert cloud.double.changing == []


def test_a_droplet_that_is_gone_meanwhile_is_no_error(cloud: Cloud) -> None:
    def destroy(state: dict[str, Any]) -> None:
        state["balancer"]["droplet_ids"].remove(102)

    cloud.ready(2)
    cloud.double.faults = [Fault("DELETE *", meanwhile=destroy)]
    cloud.drive(1)
    assert cloud.balancer["droplet_ids"] == [101]


def test_a_setting_that_the_provider_loses_is_reported(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = cloud.double._told

    def forgetful(found: dict[str, Any]) -> dict[str, Any]:
        lost = OURS_ON_TLS in found["forwarding_rules"]
        return {**shown(found), **({"http_idle_timeout_seconds": 60} if lost else {})}

    monkeypatch.setattr(cloud.double, "_told", forgetful)
    with pytest.raises(ManagedError, match="more than it was asked to: http_idle_timeout_seconds"):
        cloud.drive(1)


@pytest.mark.parametrize(
    "body",
    [[], {}, {"load_balancer": []}, {"load_balancer": {"id": 1}}, {"load_balancer": {"region": 1}}],
)
def test_an_answer_that_is_not_as_documented_is_an_error_for_people(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, body: Any
) -> None:
    provider = cloud.provider
    monkeypatch.setattr(provider._api, "get", lambda *_path, **_query: body)
    with pytest.raises(ManagedError, match="not as documented"):
        provider.read()


def test_the_token_is_in_no_log_output_or_error(
    cloud: Cloud, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    cloud.double.faults = [Fault("PUT *", 403, f"no right: {'x' * 400}")]
    provider = cloud.provider
    with pytest.raises(RightError) as told:
        cloud.drive(2)
    cloud.drive(2)
    assert "/v2/droplets" in caplog.text, "urllib3 has logged"
    said = [caplog.text, *capfd.readouterr(), *cloud.told]
    said += [repr(told.value), told.value.hint, repr(provider), repr(provider._api)]
    assert not [each for each in said if TOKEN in each or TOKEN[7:] in each]


@pytest.mark.parametrize("token", ["", "dop_v1_5ecret\n", "dop_v1_5ecret\u2019", "dop v1_5ecret"])
def test_a_token_that_no_header_takes_is_refused_without_being_told(token: str) -> None:
    with pytest.raises(TokenError) as told:
        api(token)
    assert "5ecret" not in f"{told.value!r} {told.value.hint}"
    assert told.value.__cause__ is None
