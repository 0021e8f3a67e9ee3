"""The rendered fleet: what the issuer reads of it, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from certsync.model.errors import StoreError
from certsync.model.fleet import (
    LETSENCRYPT,
    LETSENCRYPT_STAGING,
    SCHEMA,
    Authority,
    Fleet,
    Lineage,
    Machine,
)
from certsync.model.options import (
    Balancing,
    Event,
    Firewall,
    KeyType,
    Metrics,
    Notify,
    OnCertificateFailure,
    Renewal,
    Scheduler,
    Site,
    SiteKind,
    WebAccess,
)

SMALL = Fleet(
    lineages=(Lineage(("www.example.com", "example.com")),),
    public_addresses=("203.0.113.10", "2001:db8::10"),
    authority=Authority(LETSENCRYPT),
    backends=(
        Machine("backend-01", "203.0.113.11", "10.0.0.11"),
        Machine("backend-02", "203.0.113.12", "10.0.0.12"),
        Machine("backend-03", "203.0.113.13", "10.0.0.13"),
    ),
    balancers=(Machine("balancer-01", "203.0.113.10", "10.0.0.10"),),
    issuer_name="backend-02",
)
FULL = Fleet(
    lineages=(
        Lineage(
            ("www.example.com",),
            key_type=KeyType.RSA_4096,
            profile="shortlived",
            reuse_key=True,
            site=Site(SiteKind.PROXY, "/srv/www", "127.0.0.1:3000", test_page=True),
        ),
        Lineage(("shop.example.com",), ("a",), site=Site(redirect=True)),
    ),
    public_addresses=("203.0.113.10",),
    authority=Authority(
        "https://ca.example.com/", "a@example.com", "/ca.pem", "/roots.pem", "kid-1"
    ),
    backends=(Machine("a", "a.example.com", "10.0.0.1", "admin", 2222, "/home/me/id"),),
    balancers=(Machine("b", "203.0.113.10", "203.0.113.10", "admin", 2223, "/home/me/id-b"),),
    issuer_name="a",
    passthrough=False,
    firewall=Firewall(enable=True, web_access=WebAccess.BALANCERS),
    balancing=Balancing("/health", OnCertificateFailure.REFUSE),
    renewal=Renewal(12, Scheduler.SYSTEMD),
    notify=Notify((Event.RUN_FAILED, Event.BEHIND, Event.EXPIRING), "https://m.example.com/7"),
    metrics=Metrics("/var/lib/node-exporter"),
    known_hosts="/home/me/known_hosts",
)


@pytest.mark.parametrize("fleet", [pytest.param(SMALL, id="small"), pytest.param(FULL, id="full")])
def test_a_rendered_fleet_is_read_back_as_it_was(fleet: Fleet) -> None:
    assert Fleet.from_json(json.dumps(fleet.to_json())) == fleet


def test_what_is_read_back_has_choices_and_not_just_words() -> None:
    fleet = Fleet.from_json(json.dumps(FULL.to_json()))
    assert fleet.lineages[0].key_type is KeyType.RSA_4096
    assert fleet.lineages[0].site.kind is SiteKind.PROXY
    assert fleet.firewall.web_access is WebAccess.BALANCERS
    assert fleet.balancing.on_certificate_failure is OnCertificateFailure.REFUSE
    assert fleet.renewal.scheduler is Scheduler.SYSTEMD
    assert fleet.notify.events[0] is Event.RUN_FAILED


def before_schema_4(fleet: Fleet, schema: int) -> dict[str, Any]:
    """Return a fleet as it was rendered when the first lineage stood beside the others."""
    data = fleet.to_json()
    first, *others = data.pop("lineages")
    return {**data, **first, "schema": schema, "others": others}


def test_a_fleet_rendered_before_these_keys_were_there_has_their_defaults() -> None:
    older = before_schema_4(SMALL, 1)
    for key in ("profile", "reuse_key", "renewal", "notify", "metrics"):
        del older[key]
    del older["authority"]["eab_key_id"]
    assert Fleet.from_json(json.dumps(older)) == SMALL
    assert SMALL.renewal == Renewal(1, Scheduler.CRON)
    assert SMALL.notify == Notify()


@pytest.mark.parametrize("fleet", [pytest.param(SMALL, id="small"), pytest.param(FULL, id="full")])
def test_a_fleet_rendered_with_its_first_lineage_beside_the_others_is_read_as_todays(
    fleet: Fleet,
) -> None:
    older = before_schema_4(fleet, 3)
    assert older["names"] == list(fleet.lineages[0].names)
    assert "lineages" not in older
    assert Fleet.from_json(json.dumps(older)) == fleet


def test_a_fleet_rendered_before_there_were_several_lineages_is_read_as_todays() -> None:
    older = before_schema_4(SMALL, 2)
    for key in ("others", "serving", "balancer", "share_tickets"):
        del older[key]
    for table, key in (("site", "redirect"), ("balancing", "stickiness")):
        del older[table][key]
    assert Fleet.from_json(json.dumps(older)) == SMALL


def test_a_rendered_fleet_of_a_newer_schema_is_refused() -> None:
    text = json.dumps({**SMALL.to_json(), "schema": SCHEMA + 1, "colour": "blue"})
    with pytest.raises(StoreError) as caught:
        Fleet.from_json(text)
    told = f"the rendered fleet has schema {SCHEMA + 1}, but this certsync reads up to {SCHEMA}"
    assert caught.value.message == told
    assert caught.value.hint == "deploy again with the newer certsync"


def changed(**changes: object) -> str:
    return json.dumps({**SMALL.to_json(), **changes})


def changed_lineage(**changes: object) -> str:
    return changed(lineages=[{"names": ["www.example.com"], **changes}])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="cut off"),
        pytest.param("[]", id="a list"),
        pytest.param("{}", id="without a schema"),
        pytest.param('{"schema": 1}', id="schema alone"),
        pytest.param(changed(schema="one"), id="a schema that is no number"),
        pytest.param(changed(backends=[{"name": "a"}]), id="half a machine"),
        pytest.param(changed(backends=["a"]), id="a word for a machine"),
        pytest.param(changed_lineage(key_type="dsa"), id="unknown key type"),
        pytest.param(changed_lineage(site={"kind": "swarm"}), id="unknown kind of site"),
        pytest.param(changed(firewall=None), id="nothing for a table"),
        pytest.param(changed(notify={"events": ["all"]}), id="unknown event"),
    ],
)
def test_garbage_in_place_of_a_rendered_fleet_is_refused(text: str) -> None:
    with pytest.raises(StoreError) as caught:
        Fleet.from_json(text)
    assert caught.value.message.startswith("the rendered fleet cannot be read: ")
    assert caught.value.hint == "run `certsync deploy` again"


def test_the_first_name_names_the_lineage() -> None:
    assert SMALL.name == SMALL.lineages[0].name == "www.example.com"


def test_replicas_are_all_backends_but_the_issuer() -> None:
    assert SMALL.issuer.name == "backend-02"
    assert [machine.name for machine in SMALL.replicas] == ["backend-01", "backend-03"]


def test_machines_are_backends_and_then_balancers() -> None:
    names = ["backend-01", "backend-02", "backend-03", "balancer-01"]
    assert [machine.name for machine in SMALL.machines] == names


@pytest.mark.parametrize(
    ("authority", "trusted"),
    [
        pytest.param(Authority(LETSENCRYPT), True, id="let's encrypt"),
        pytest.param(Authority(LETSENCRYPT_STAGING), False, id="staging"),
        pytest.param(Authority("https://ca.example.com/", roots="/r.pem"), False, id="own roots"),
        pytest.param(Authority("https://ca.example.com/"), True, id="another public CA"),
    ],
)
def test_only_a_ca_with_the_systems_roots_is_publicly_trusted(
    authority: Authority, trusted: bool
) -> None:
    assert authority.publicly_trusted is trusted
