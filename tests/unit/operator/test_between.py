"""What the issuer needs of its replicas, and its resolver's answers beside this machine's."""

from __future__ import annotations

import socket
import subprocess
from dataclasses import replace

import pytest

from certsync.model.errors import HostError
from certsync.model.fleet import Machine
from certsync.operator.hosts import between
from certsync.operator.hosts.between import NOTHING, Way, ask, of_ways, parse
from certsync.operator.hosts.check_online import of_names
from certsync.operator.hosts.survey import Survey
from certsync.programs import command
from certsync.system import dns, ssh
from certsync.system.dns import Found
from certsync.system.process import Completed
from tests.unit.fake_fleet import NAME, fleet

FLEET = fleet()
ISSUER, SECOND, THIRD = FLEET.backends
OWN = {ISSUER.private_address, "198.51.100.7"}


def told(ways: dict[str, Way], own: set[str] = OWN) -> list[str]:
    return [each.full() for each in of_ways(FLEET, FLEET.replicas, ways, own)]


def test_a_way_that_is_open_and_comes_from_the_pinned_address_is_fine() -> None:
    good = Way("open", ISSUER.private_address)
    assert told({SECOND.private_address: good, THIRD.private_address: Way("open", "")}) == []
    assert told({}) == []


def test_connections_from_another_address_are_told_with_that_address() -> None:
    other = Way("open", "198.51.100.7")
    [text] = told({SECOND.private_address: other, THIRD.private_address: other})
    assert text == (
        "backend-01: its connections to backend-02, backend-03 come from 198.51.100.7, but "
        "replicas accept pushes only from 203.0.113.11, its private_address\n"
        "  hint: set private_address of backend-01 to 198.51.100.7, or private_address of "
        "backend-02, backend-03 to one that it reaches from 203.0.113.11; `ip route get` there "
        "shows which"
    )


def test_where_the_address_may_be_translated_on_the_way_it_is_a_note() -> None:
    [text] = told({SECOND.private_address: Way("open", "172.31.0.7")}, {"172.31.0.7"})
    assert text.startswith("note: backend-01: its connections to backend-02 come from 172.31.0.7")
    assert "NAT" in text


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("refused", "nothing listens there"), ("unroutable", "it has no route to it"),
        ("silent", "nothing answers there"),
    ],
)  # fmt: skip
def test_a_replica_out_of_the_issuers_reach_is_told_and_that_pushes_take_no_jump(
    state: str, words: str
) -> None:
    [text] = told({SECOND.private_address: Way(state, ISSUER.private_address)})
    assert text.startswith(
        f"backend-01: it does not reach backend-02 at 203.0.113.12, port 22: {words}\n"
        "  hint: pushes go there directly, not through a jump host: allow 203.0.113.11 to TCP "
    )


def test_nonsense_in_its_answer_is_ignored() -> None:
    lines = ["to", "to x y z", "to 1.2.3.4 open not-an-address", "name", "name a b ::1", "?"]
    found = parse(lines)
    assert found.ways == {"1.2.3.4": Way("open", "")}
    assert found.names == {"a": Found(("::1",))}


def test_the_program_says_what_it_reaches_and_finds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    words = ("127.0.0.1", str(closed), "--", "localhost", "no.such.name.invalid")
    done = subprocess.run(
        ["sh", "-c", command("reaches.sh", *words)], capture_output=True, text=True, check=True
    )
    found = parse(done.stdout.splitlines())
    assert found.ways == {"127.0.0.1": Way("refused", "127.0.0.1")}
    assert "127.0.0.1" in found.names["localhost"].addresses
    assert found.names["no.such.name.invalid"] == Found()


def test_hosts_that_were_not_reached_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def on(machine: Machine, _known: str, _command: str) -> Completed:
        asked.append(machine.name)
        return Completed(0, "allowusers root\n", "")

    monkeypatch.setattr(ssh, "on", on)
    found, issuer = ask(FLEET, {"backend-02": Survey(), "balancer": Survey()}, [NAME])
    assert asked == ["backend-02"]
    assert issuer == NOTHING
    assert [str(each) for each in found] == [
        (
            "backend-02: its sshd would refuse the issuer's pushes, which come as certsync from "
            "203.0.113.11: AllowUsers root"
        )
    ]


def test_one_that_no_longer_answers_has_no_finding_of_these(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def on(*_: object) -> Completed:
        raise HostError("gone")

    monkeypatch.setattr(ssh, "on", on)
    surveys = {each.name: Survey() for each in FLEET.machines}
    assert between.ask(FLEET, surveys, [NAME]) == ([], NOTHING)


def test_before_a_promotion_the_ways_of_the_next_issuer_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    after = replace(FLEET, issuer_name="backend-02")
    asked: list[str] = []

    def on(machine: Machine, _known: str, command: str) -> Completed:
        asked.append(machine.name)
        if "/dev/tcp" in command:
            return Completed(0, f"to {THIRD.private_address} silent\n", "")
        return Completed(0, f"address eth0 {SECOND.private_address}/24\n", "")

    monkeypatch.setattr(ssh, "on", on)
    [found] = between.of_next_issuer(after, ISSUER)
    assert str(found).startswith("backend-02: it does not reach backend-03 at 203.0.113.13")
    assert "backend-01" not in asked


RIGHT, WRONG = Found(FLEET.public_addresses), Found(("198.51.100.9",))


def names(here: Found, there: Found | None) -> list[str]:
    answers = {} if there is None else {NAME: there}
    return [each.full() for each in of_names(FLEET, [NAME], {NAME: here}, answers)]


def test_what_only_the_issuers_resolver_gets_wrong_is_told_of_the_issuer() -> None:
    [text] = names(RIGHT, WRONG)
    assert text == (
        f"backend-01: {NAME} resolves to 198.51.100.9, which is not a public address of the fleet "
        "there; this machine finds the right records, but orders go by the issuer's resolver\n"
        f"  hint: look at its /etc/hosts and its resolver; `getent ahosts {NAME}` there shows what "
        "it finds"
    )
    [text] = names(RIGHT, Found())
    assert text.startswith(f"backend-01: {NAME} has no A or AAAA record there")


@pytest.mark.parametrize("here", [WRONG, Found(), Found(failure="no answer")])
def test_what_only_this_machines_resolver_gets_wrong_is_a_note(here: Found) -> None:
    [text] = names(here, RIGHT)
    assert text.startswith("note: DNS: ")
    assert "hint: backend-01 resolves it as it should" in text


@pytest.mark.parametrize("there", [WRONG, Found(), None])
def test_what_both_get_wrong_is_told_once_with_the_records(there: Found | None) -> None:
    [text] = names(WRONG, there)
    assert text.startswith("DNS: ")
    assert f"hint: set: {NAME}. A 203.0.113.10" in text


def test_of_a_cdns_addresses_it_is_said_that_it_has_to_go() -> None:
    finding = dns.findings(FLEET, [NAME], {NAME: WRONG})
    assert "a CDN's or another proxy's addresses" in dns.to_set(FLEET, [NAME], finding)
    missing = [replace(each, elsewhere=False) for each in finding]
    assert "CDN" not in dns.to_set(FLEET, [NAME], missing)
