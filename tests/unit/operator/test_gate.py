"""The gate: proof admits, silence changes nothing, and the last member stays."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from certsync.model.fleet import Authority, Fleet
from certsync.model.options import Balancing, OnCertificateFailure, Stickiness
from certsync.model.proof import Proof, Verdict
from certsync.operator.balancer import gate
from certsync.operator.balancer.gate import Gate, Seen, read
from certsync.operator.balancer.server_states import drained, pools_with
from certsync.operator.rendering import templates
from tests.unit.fake_fleet import DIRECTORY, NAME, fleet, lineage, machine

NAMES = ("backend-01", "backend-02")
IN = dict.fromkeys(NAMES, True)
OUT = dict.fromkeys(NAMES, False)
TOLD, UNTOLD = dict.fromkeys(NAMES, 8443), dict.fromkeys(NAMES, 0)


def gate_of(rule: bool, members: dict[str, bool]) -> Gate:
    """Return a gate that has every backend on port 80, as a first deploy leaves it."""
    pools = {NAME: members} if members else {}
    return Gate(rule, pools, dict.fromkeys(members, True), dict.fromkeys(members, 0))


def admitted_in(made: Gate) -> tuple[str, ...]:
    return tuple(name for name, inside in made.pools[NAME].items() if inside)


def decide(
    rule_on: bool, before: Gate, proofs: dict[str, Proof], listening: Collection[str] = ()
) -> Gate:
    """Decide for a fleet of one lineage."""
    return gate.decide(fleet(2, passthrough=rule_on), before, Seen({NAME: proofs}, listening))


def proofs(**verdicts: Verdict) -> dict[str, Proof]:
    names = {key.replace("_", "-"): verdict for key, verdict in verdicts.items()}
    return {name: Proof(name, verdict, "", "", "", "") for name, verdict in names.items()}


def test_a_member_is_admitted_and_the_rule_turned_on_by_proof() -> None:
    seen = proofs(backend_01=Verdict.IN_SYNC, backend_02=Verdict.UNREACHABLE)
    made = decide(rule_on=True, before=gate_of(False, {}), proofs=seen)
    assert made == gate_of(True, {"backend-01": True, "backend-02": False})


def test_without_any_proof_nothing_is_turned_on() -> None:
    assert decide(rule_on=True, before=gate_of(False, {}), proofs={}) == gate_of(False, OUT)


@pytest.mark.parametrize("verdict", [None, Verdict.UNREACHABLE, Verdict.BEHIND])
def test_a_member_stays_where_no_client_would_refuse_it(verdict: Verdict | None) -> None:
    seen = proofs(backend_01=verdict, backend_02=verdict) if verdict else {}
    assert decide(rule_on=True, before=gate_of(True, IN), proofs=seen) == gate_of(True, IN)


def test_a_member_that_clients_would_refuse_is_taken_out() -> None:
    seen = proofs(backend_01=Verdict.IN_SYNC, backend_02=Verdict.WRONG)
    made = decide(rule_on=True, before=gate_of(True, IN), proofs=seen)
    assert admitted_in(made) == ("backend-01",)


def test_where_clients_would_refuse_all_members_all_of_them_stay() -> None:
    seen = proofs(backend_01=Verdict.WRONG, backend_02=Verdict.WRONG)
    made = decide(rule_on=True, before=gate_of(True, IN), proofs=seen)
    assert admitted_in(made) == NAMES
    assert made.rule
    last = decide(True, gate_of(True, {"backend-01": True, "backend-02": False}), seen)
    assert admitted_in(last) == ("backend-01",)


def test_one_that_was_never_proven_is_not_admitted_for_being_reached() -> None:
    seen = proofs(backend_01=Verdict.IN_SYNC, backend_02=Verdict.BEHIND)
    made = decide(rule_on=True, before=gate_of(False, OUT), proofs=seen)
    assert admitted_in(made) == ("backend-01",)


def test_passthrough_off_turns_the_rule_off_and_keeps_the_members() -> None:
    made = decide(rule_on=False, before=gate_of(True, IN), proofs={})
    assert made == gate_of(False, IN)


def test_a_backend_that_left_the_fleet_is_no_member() -> None:
    before = gate_of(True, {**IN, "backend-09": True})
    assert "backend-09" not in decide(True, before, {}).pools[NAME]


def test_on_port_80_a_first_deploy_lets_everybody_in_for_the_challenges() -> None:
    assert decide(rule_on=True, before=Gate(False), proofs={}).web == IN


@pytest.mark.parametrize("rule", [True, False])
def test_who_joins_a_fleet_in_service_is_on_port_80_only_once_it_is_proven(rule: bool) -> None:
    before = gate_of(rule, {"backend-01": True})
    assert decide(True, before, {}).web == {"backend-01": True, "backend-02": False}
    seen = proofs(backend_02=Verdict.BEHIND)
    assert not decide(True, before, seen).web["backend-02"]
    seen = proofs(backend_02=Verdict.IN_SYNC)
    assert decide(True, before, seen).web == IN


def test_who_is_on_port_80_stays_there_whatever_it_serves() -> None:
    seen = proofs(backend_01=Verdict.IN_SYNC, backend_02=Verdict.WRONG)
    assert decide(True, gate_of(True, IN), seen).web == IN


@pytest.mark.parametrize("rule", [True, False])
@pytest.mark.parametrize("members", [IN, OUT, {"backend-01": True, "backend-02": False}])
@pytest.mark.parametrize("web", [IN, {"backend-01": True, "backend-02": False}])
@pytest.mark.parametrize("ports", [TOLD, UNTOLD, {"backend-01": 0, "backend-02": 8443}])
@pytest.mark.parametrize("failure", list(OnCertificateFailure))
@pytest.mark.parametrize("stickiness", list(Stickiness))
def test_what_is_written_into_haproxy_cfg_is_read_back(
    rule: bool,
    members: dict[str, bool],
    web: dict[str, bool],
    ports: dict[str, int],
    failure: OnCertificateFailure,
    stickiness: Stickiness,
) -> None:
    wanted = Gate(rule, {NAME: members}, web, ports)
    made = fleet(2, balancing=Balancing(on_certificate_failure=failure, stickiness=stickiness))
    assert read(haproxy(made, wanted)) == wanted


def haproxy(made: Fleet, wanted: Gate, roots_sum: str = "") -> str:
    return templates.haproxy(made, made.balancers[0], wanted, roots_sum=roots_sum)


@pytest.mark.parametrize(
    "text", ["", "frontend web\n  bind :80\nbackend web\n  server a 1.2.3.4\n"]
)
def test_somebody_elses_configuration_says_nothing(text: str) -> None:
    assert read(text) == Gate(False)


def test_the_check_verifies_names_dates_and_roots_and_never_resumes() -> None:
    made = fleet(1, authority=Authority(DIRECTORY, roots="/roots.pem"))
    text = haproxy(made, gate_of(True, {"backend-01": True}))
    assert (
        "check check-ssl no-ssl-reuse check-sni passthrough.example.com verify required "
        "ca-file /etc/haproxy/certsync-roots.pem" in text
    )


def test_other_roots_are_another_configuration_so_that_haproxy_reads_them() -> None:
    made, wanted = fleet(1), gate_of(True, {"backend-01": True})
    assert "\n# Roots with SHA-256 abc.\n" in haproxy(made, wanted, "abc")
    assert "Roots with" not in haproxy(made, wanted)


def test_an_ipv6_member_is_written_in_brackets() -> None:
    six = machine("backend-01", 11, private_address="2001:db8::11")
    made = replace(fleet(1), backends=(six,))
    text = haproxy(made, gate_of(True, {"backend-01": True}))
    assert "server backend-01 [2001:db8::11]:443\n" in text


# The client's address


def test_a_member_is_told_the_clients_address_once_it_is_seen_to_listen_for_it() -> None:
    before = gate_of(True, IN)
    assert decide(True, before, {}).ports == UNTOLD
    assert decide(True, before, {}, ["backend-02"]).ports == {"backend-01": 0, "backend-02": 8443}


def test_who_does_not_answer_for_once_is_told_it_still() -> None:
    assert decide(True, replace(gate_of(True, IN), ports=TOLD), {}).ports == TOLD


def test_on_another_port_it_has_to_be_seen_to_listen_anew() -> None:
    other = fleet(2, balancing=Balancing(proxy_port=9443))
    before = replace(gate_of(True, IN), ports=TOLD)
    assert gate.decide(other, before, Seen()).ports == UNTOLD
    assert gate.decide(other, before, Seen({}, ["backend-01"])).ports == {
        "backend-01": 9443, "backend-02": 0,
    }  # fmt: skip


def test_nobody_is_told_it_where_the_fleet_file_says_so() -> None:
    off = fleet(2, balancing=Balancing(proxy_protocol=False))
    before = replace(gate_of(True, IN), ports=TOLD)
    assert gate.decide(off, before, Seen({}, NAMES)).ports == UNTOLD


def test_a_member_told_it_is_reached_on_the_port_for_it_with_health_checks_too() -> None:
    made = fleet(2, balancing=Balancing(proxy_port=9443))
    text = haproxy(made, replace(gate_of(True, IN), ports={"backend-01": 9443, "backend-02": 0}))
    pool = text[text.index("\nbackend tls\n") :]
    assert "    server backend-01 203.0.113.11:9443 send-proxy-v2\n" in pool
    assert "    server backend-02 203.0.113.12:443\n" in pool
    assert "check-send-proxy" not in text  # implied, as long as no `port` is given
    assert " port " not in pool


# Several lineages

SHOP = "shop.example.net"


def two_lineages() -> Fleet:
    """Return a fleet whose second backend serves a shop of its own, and the first all else."""
    return serving_shop(("backend-02",), of_first=("backend-01",))


def serving_shop(serving: tuple[str, ...] = (), of_first: tuple[str, ...] = ()) -> Fleet:
    """Return a fleet of two lineages, and who serves each."""
    first, shop = lineage(serving=of_first), lineage(SHOP, serving=serving)
    return fleet(2, lineages=(first, shop))


def test_each_lineage_has_a_pool_of_its_own_with_its_own_proofs() -> None:
    first = proofs(backend_01=Verdict.IN_SYNC, backend_02=Verdict.IN_SYNC)
    second = proofs(backend_02=Verdict.UNREACHABLE)
    made = gate.decide(two_lineages(), Gate(False), Seen({NAME: first, SHOP: second}))
    assert made.pools == {NAME: {"backend-01": True}, SHOP: {"backend-02": False}}
    second = proofs(backend_02=Verdict.IN_SYNC)
    made = gate.decide(two_lineages(), made, Seen({SHOP: second}))
    assert made.pools == {NAME: {"backend-01": True}, SHOP: {"backend-02": True}}


def test_a_lineage_that_is_new_has_nobody_in_its_pool_until_that_is_proven() -> None:
    everywhere = serving_shop()
    made = gate.decide(everywhere, gate_of(True, IN), Seen({NAME: {}}))
    assert made.pools == {NAME: IN, SHOP: OUT}


def test_one_lineage_that_is_proven_turns_the_rule_on() -> None:
    second = proofs(backend_02=Verdict.IN_SYNC)
    made = gate.decide(two_lineages(), Gate(False), Seen({SHOP: second}))
    assert made.rule
    assert admitted_in(made) == ()


def test_members_go_with_their_lineages_name_whichever_is_the_first() -> None:
    """A new lineage on top of the file must not inherit who serves another one."""
    old = read(haproxy(fleet(2), gate_of(True, IN)))
    assert old.pools == {NAME: IN}
    swapped = lineages((SHOP,), (NAME,))
    made = gate.decide(swapped, old, Seen())
    assert made.pools == {SHOP: OUT, NAME: IN}
    assert read(haproxy(swapped, made)) == made


def test_a_fleets_only_lineage_may_get_another_name() -> None:
    old = read(haproxy(fleet(2), gate_of(True, IN)))
    assert gate.decide(fleet(2, names=(SHOP, NAME)), old, Seen()).pools == {SHOP: IN}


def test_who_leaves_a_lineage_is_known_from_what_the_balancer_has() -> None:
    both = serving_shop()
    old = read(haproxy(both, gate.decide(both, gate_of(True, IN), Seen({SHOP: proofs(
        backend_01=Verdict.IN_SYNC, backend_02=Verdict.IN_SYNC)}))))  # fmt: skip
    assert old.leaving(both) == {}
    assert old.leaving(two_lineages()) == {NAME: ["backend-02"], SHOP: ["backend-01"]}
    assert gate.abandoned(two_lineages(), old) == []
    assert old.leaving(fleet(2)) == {SHOP: ["backend-01", "backend-02"]}
    only_first = serving_shop(("backend-01",))
    moved = gate.decide(two_lineages(), old, Seen())
    assert gate.abandoned(only_first, moved) == [SHOP]


def test_the_last_member_of_each_pool_stays() -> None:
    before = Gate(True, {NAME: {"backend-01": True}, SHOP: {"backend-02": True}}, IN, UNTOLD)
    wrong = {NAME: proofs(backend_01=Verdict.WRONG), SHOP: proofs(backend_02=Verdict.WRONG)}
    made = gate.decide(two_lineages(), before, Seen(wrong))
    assert made.pools == before.pools


def test_the_pools_of_several_lineages_are_read_back() -> None:
    for inside in (True, False):
        wanted = Gate(True, {NAME: {"backend-01": True}, SHOP: {"backend-02": inside}}, IN, TOLD)
        assert read(haproxy(two_lineages(), wanted)) == wanted


def test_with_several_lineages_a_name_that_is_nobodys_is_refused() -> None:
    wanted = Gate(True, {NAME: {"backend-01": True}, SHOP: {"backend-02": True}}, IN, TOLD)
    text = haproxy(two_lineages(), wanted)
    frontend = text[text.index("frontend tls\n") : text.index("\nbackend tls\n")]
    assert "    tcp-request content reject\n" in frontend
    assert "default_backend" not in frontend
    assert f"    use_backend tls-of-{SHOP} if for-tls-of-{SHOP}\n" in frontend


CONFIGURATION = """\
# Port 80
frontend http
    bind :::80 v4v6
backend http
    server backend-01 203.0.113.11:80
    server backend-02 203.0.113.12:80
backend tls
    server backend-01 203.0.113.11:443
    server backend-02 203.0.113.12:443 disabled
"""
STATES = """\
1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight
3 http 1 backend-01 203.0.113.11 2 0 1
3 http 2 backend-02 203.0.113.12 2 8 1
4 tls 1 backend-01 203.0.113.11 0 40 1
4 tls 2 backend-02 203.0.113.12 0 8 1
"""


def test_members_that_are_drained_are_found_and_one_that_is_not_proven_is_left_as_it_is() -> None:
    has = read(CONFIGURATION)
    assert drained(fleet(2), has, STATES.splitlines()) == ["http/backend-02", "tls/backend-01"]
    assert drained(fleet(2), has, []) == drained(fleet(2), read(""), STATES.splitlines()) == []


def test_a_member_is_drained_in_every_pool_that_haproxy_has_it_in() -> None:
    assert pools_with("backend-02", STATES.splitlines()) == ["http", "tls"]
    assert pools_with("backend-09", STATES.splitlines()) == []


def test_a_template_of_a_fleets_own_may_say_the_checked_name_with_each_member() -> None:
    text = (
        "frontend tls\n"
        "backend tls\n"
        "    server a 203.0.113.11:443 check check-sni www.example.com\n"
        "    server b 203.0.113.12:8443 send-proxy-v2 check-sni www.example.com disabled\n"
    )
    pools = {"www.example.com": {"a": True, "b": False}}
    assert read(text) == Gate(True, pools, {}, {"a": 0, "b": 8443})


# What a deploy would take away


def admitted(made: Fleet) -> Gate:
    """Return the gate of a fleet whose members are all in."""
    good = proofs(backend_01=Verdict.IN_SYNC, backend_02=Verdict.IN_SYNC)
    seen = Seen({each.name: good for each in made.lineages})
    return gate.decide(made, Gate(False), seen)


def lineages(*wanted: tuple[str, ...]) -> Fleet:
    return fleet(2, lineages=tuple(lineage(*names) for names in wanted))


WWW = f"www.{NAME}"


@pytest.mark.parametrize(
    ("was", "will", "found"),
    [
        (lineages((NAME, WWW)), lineages((NAME, WWW)), {}),
        (lineages((NAME, WWW)), lineages((NAME,)), {}),
        (lineages((NAME,)), lineages((NAME, WWW)), {}),
        (lineages((NAME,)), lineages((NAME,), (SHOP,)), {}),
        (lineages((NAME,)), lineages((SHOP,), (NAME,)), {}),
        (lineages((NAME,), (SHOP,)), lineages((SHOP,), (NAME,)), {}),
        (lineages((NAME,), (SHOP,)), lineages((SHOP,)), {}),
        (lineages((NAME, WWW)), lineages((WWW, NAME)), {WWW: [WWW, NAME]}),
        (lineages((NAME, WWW)), lineages((NAME,), (WWW,)), {WWW: [WWW]}),
        (lineages((SHOP,), (NAME, WWW)), lineages((SHOP,), (WWW,)), {WWW: [WWW]}),
        (lineages((NAME, WWW), (SHOP,)), lineages((NAME,), (SHOP, WWW)), {SHOP: [WWW]}),
        (lineages((NAME,), (SHOP,)), lineages((NAME, SHOP)), {NAME: [SHOP]}),
    ],
)
def test_names_that_nobody_would_serve_for_a_while_are_known_before(
    was: Fleet, will: Fleet, found: dict[str, list[str]]
) -> None:
    assert gate.uncovered(will, was, admitted(was)) == found
    # Where nothing is passed through, nobody comes.
    assert gate.uncovered(will, was, replace(admitted(was), rule=False)) == {}
    assert gate.uncovered(replace(will, passthrough=False), was, admitted(was)) == {}


def test_what_backends_are_about_to_take_away_is_known_before() -> None:
    moved = fleet(2, balancing=Balancing(proxy_port=9443))
    off = fleet(2, balancing=Balancing(proxy_protocol=False))
    assert gate.takes_away(moved, fleet(2))
    assert not gate.takes_away(moved, off)
    assert not gate.takes_away(off, fleet(2))
    both = lineages((NAME,), (SHOP,))
    assert gate.takes_away(two_lineages(), both)
    assert not gate.takes_away(both, two_lineages())
    # Another address of a balancer's own, which the port for the PROXY protocol does not trust yet.
    first = fleet(2).balancers[0]
    elsewhere = fleet(2, balancers=(replace(first, private_address="10.0.0.9"),))
    assert gate.no_longer_trusted(elsewhere, fleet(2)) == [first.name]
    assert gate.takes_away(elsewhere, fleet(2))
    assert not gate.takes_away(elsewhere, off)
    second = replace(first, name="balancer-02", address="203.0.113.20")
    assert not gate.takes_away(fleet(2, balancers=(first, second)), fleet(2))
    assert not gate.takes_away(fleet(2), fleet(2, balancers=(first, second)))
    # Who leaves the fleet is let go by its own command.
    assert not gate.takes_away(fleet(1), fleet(2))


def test_where_nothing_is_passed_through_nobody_is_left_without_a_server() -> None:
    only_first = serving_shop(("backend-01",))
    moved = admitted(two_lineages())
    assert gate.abandoned(only_first, moved) == [SHOP]
    assert gate.abandoned(only_first, replace(moved, rule=False)) == []
    assert gate.abandoned(replace(only_first, passthrough=False), moved) == []
