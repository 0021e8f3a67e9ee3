"""What is told to be set at somebody else's balancer, word for word, and when it may be on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from certsync.model.errors import CertsyncError
from certsync.model.fleet import Fleet, Lineage
from certsync.model.options import Balancer, Balancing, Provider
from certsync.model.proof import Proof, Verdict
from certsync.operator.balancer import provider_rules
from certsync.operator.balancer.rules import conclusion, rules
from tests.unit import texts
from tests.unit.fake_fleet import NAME, fleet, lineage


def theirs(**changes: object) -> Fleet:
    """Return the tutorial's fleet of two backends behind somebody else's balancer."""
    balancer = Balancer(Provider.NONE, (), ("10.0.0.0/24",))
    return fleet(2, **{"balancers": (), "balancer": balancer, **changes})


def proofs(**verdicts: Verdict) -> dict[str, dict[str, Proof]]:
    """Return what the issuer sees of each backend, `backend_01` for backend-01."""
    found = {}
    for word, verdict in verdicts.items():
        name = word.replace("_", "-")
        why = "" if verdict is Verdict.IN_SYNC else "a client would refuse it"
        found[name] = Proof(name, verdict, "0001", "ab", "", why)
    return {NAME: found}


BOTH = proofs(backend_01=Verdict.IN_SYNC, backend_02=Verdict.IN_SYNC)


def test_all_that_is_to_be_set_is_told() -> None:
    made = theirs()
    text = provider_rules.text(made, provider_rules.stand(made, BOTH))
    assert f"{text}\n" == texts.kept("rules", f"{text}\n")


def test_without_the_proxy_protocol_port_443_goes_to_443_everywhere() -> None:
    made = theirs(balancing=Balancing(proxy_protocol=False), balancer=Balancer(Provider.NONE))
    text = provider_rules.text(made, provider_rules.stand(made, BOTH))
    assert "8443" not in text
    assert "TCP 443 -> port 443\n        PROXY protocol: Proxy Protocol: None" in text
    assert "TCP 443 -> TCP 443\n        PROXY protocol: off: no policy" in text
    assert "one switch" not in text
    assert "the client's address is accepted from nowhere: " in text


def test_programs_are_told_the_same() -> None:
    made = theirs()
    data = json.loads(json.dumps(provider_rules.to_json(made, provider_rules.stand(made, BOTH))))
    assert data["nodes"][0] == {"name": "backend-01", "address": "203.0.113.11"}
    assert [each["provider"] for each in data["providers"]] == [
        "DigitalOcean", "Linode", "Outscale",
    ]  # fmt: skip
    assert data["rule"] == {
        "may_be_on": True, "why_not": "", "ready": ["backend-01", "backend-02"], "waiting": {},
    }  # fmt: skip


def test_who_is_not_proven_is_not_in_the_pool_yet() -> None:
    made = theirs()
    stands = provider_rules.stand(
        made, proofs(backend_01=Verdict.IN_SYNC, backend_02=Verdict.WRONG)
    )
    assert stands.may
    assert stands.text() == (
        "the rule for port 443 may be on now, for backend-01\n"
        "keep out of its pool: backend-02: a client would refuse it"
    )


@pytest.mark.parametrize(
    ("seen", "differing", "changes", "why"),
    [
        ({}, (), {}, "no backend is proven"),
        (BOTH, ("balancing",), {}, "the fleet file has edits that are not deployed: balancing"),
        (BOTH, (), {"passthrough": False}, "passthrough is off in the fleet file"),
    ],
)
def test_the_rule_may_not_be_on(
    seen: dict[str, dict[str, Proof]],
    differing: tuple[str, ...],
    changes: dict[str, object],
    why: str,
) -> None:
    stands = provider_rules.stand(theirs(**changes), seen, differing)
    assert not stands.may
    told = f"the rule for port 443 must stay off for now: {why}"
    assert stands.text().splitlines()[0] == told


def and_shop(serving: tuple[str, ...] = (), of_first: tuple[str, ...] = ()) -> tuple[Lineage, ...]:
    """Return two lineages, and who serves each."""
    return lineage(serving=of_first), lineage("shop.example.net", serving=serving)


def test_only_who_serves_every_name_is_a_node_because_any_may_get_any() -> None:
    made = theirs(lineages=and_shop(("backend-02",)))
    assert [node.name for node in provider_rules.nodes(made)] == ["backend-02"]
    shop = {"shop.example.net": {"backend-02": BOTH[NAME]["backend-02"]}}
    assert provider_rules.stand(made, BOTH).waiting == {"backend-02": "not proven"}
    assert provider_rules.stand(made, {**BOTH, **shop}).ready == ("backend-02",)


def test_a_check_that_names_no_server_is_not_advised_where_there_are_several_certificates() -> None:
    [ours] = [
        each
        for each in provider_rules.rules(theirs(lineages=and_shop()))
        if each.provider[0] == "D"
    ]
    assert ours.check.startswith("TCP, port 443, every 10 s")


def test_where_nobody_serves_all_names_there_is_no_pool() -> None:
    made = theirs(lineages=and_shop(("backend-02",), ("backend-01",)))
    assert provider_rules.stand(made, BOTH).why_not == (
        "no backend serves all names, and this balancer cannot route by name"
    )


TOML = """\
names = ["www.example.com"]
public_addresses = ["203.0.113.10"]
[ca]
agree_to_terms = true
[backends.a]
address = "203.0.113.11"
"""
NONE = '[balancer]\nprovider = "none"\nnetworks = ["203.0.113.10"]\n'


def test_offline_nobody_is_asked_and_the_rule_may_not_be_on(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(TOML + NONE)
    shown = rules(path, offline=True)
    assert not shown.standing.may
    assert shown.text().endswith(
        "must stay off for now: the issuer was not asked\nkeep out of its pool: a: not proven"
    )


def test_a_fleet_with_balancers_of_ours_is_refused_with_what_to_write(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(TOML + '[balancers.b]\naddress = "203.0.113.10"\n')
    with pytest.raises(CertsyncError) as caught:
        rules(path, offline=True)
    assert caught.value.message == "certsync sets this fleet's rules itself, on b"
    assert caught.value.hint == (
        'for a provider\'s balancer set provider = "none" under [balancer] and remove [balancers]'
    )


def test_a_deploy_to_balancers_of_ours_says_nothing_of_rules() -> None:
    assert conclusion(fleet(), Path("fleet.toml")) == ""
