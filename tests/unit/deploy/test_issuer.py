"""What makes a host the issuer, and what it is made to forget."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from certsync.model import paths
from certsync.model.fleet import Authority, Fleet
from certsync.operator.hosts import facts
from certsync.operator.hosts.facts import HostFacts
from certsync.operator.hosts.survey import Entry, Survey
from deploy import issuer
from deploy.step import Step
from tests.unit.fake_fleet import fleet, machine
from tests.unit.fake_run import Run

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "b" * 43
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "c" * 43
STORE = paths.IssuerPaths()
FLEET = fleet()


def with_key(key: str) -> Survey:
    return Survey(entries={"/etc/ssh/ssh_host_ed25519_key.pub": Entry("f", text=f"{key}\n")})


def of(name: str, steps: Iterable[Step]) -> Step:
    [found] = [each for each in steps if each.name == name]
    return found


def configured(made: Fleet, seen: Survey) -> list[Step]:
    return [*issuer.configure(made, "sum", {}, seen)]


@pytest.mark.parametrize(
    ("entry", "made"),
    [(None, True), (Entry("f", size=0), True), (Entry("f", size=411), False)],
)
def test_a_push_key_is_made_where_there_is_none_or_an_empty_one(
    entry: Entry | None, made: bool
) -> None:
    entries = {f"{issuer.PUSH}/id_ed25519": entry} if entry else {}
    assert bool(of("Push key", configured(FLEET, Survey(entries=entries))).script) is made


def test_a_replica_is_pinned_by_its_private_address_and_ssh_port() -> None:
    replicas = (
        replace(FLEET.backends[1], address="backend-02.example", ssh_port=2222),
        replace(FLEET.backends[2], address="backend-03.example"),
    )
    made = replace(FLEET, backends=(FLEET.issuer, *replicas))
    others = {each.name: with_key(KEY) for each in made.backends}
    assert issuer.known_hosts(made, others, "").splitlines()[1:] == [
        f"[203.0.113.12]:2222 {KEY}", f"203.0.113.13 {KEY}"
    ]  # fmt: skip


def test_a_key_that_was_pinned_is_that_of_its_address_alone_and_goes_with_its_replica() -> None:
    made = fleet(2)
    before = f"203.0.113.12 {KEY}\n203.0.113.120 {OTHER}\n[203.0.113.12]:2222 {OTHER}\n"
    assert issuer.known_hosts(made, {}, before).splitlines()[1:] == [f"203.0.113.12 {KEY}"]
    # What the replica itself shows now counts more.
    assert issuer.known_hosts(made, {"backend-02": with_key(OTHER)}, before).splitlines()[1:] == [
        f"203.0.113.12 {OTHER}"
    ]


def test_an_issuer_is_given_the_whole_fleet_but_for_what_the_operator_alone_uses() -> None:
    backends = tuple(replace(each, ssh_key="/home/me/.ssh/id") for each in FLEET.backends)
    mine = replace(FLEET, backends=backends, known_hosts="/home/me/known", templates="/home/me/t")
    text = issuer.rendered(mine)
    assert "/home/me" not in text
    assert Fleet.from_json(text) == FLEET


def test_the_note_of_a_fleet_file_tells_when_it_was_first_deployed() -> None:
    first = issuer.origin("0123", "")
    assert {**json.loads(first), "at": "", "by": ""} == {
        "schema": 1, "sha256": "0123", "at": "", "by": ""
    }  # fmt: skip
    long_ago = first.replace(json.loads(first)["at"], "2026-01-01T00:00:00+00:00")
    assert issuer.origin("0123", long_ago) == long_ago
    assert json.loads(issuer.origin("4567", first))["sha256"] == "4567"


def test_the_list_of_machines_says_which_of_them_are_balancers() -> None:
    text = of("List of machines", configured(FLEET, Survey())).text
    seen = facts.parse([f"known {line}" for line in text.splitlines()])
    assert seen.known_machines == ("backend-01", "backend-02", "backend-03", "balancer")
    assert seen.known_balancers == ("balancer",)


def test_what_is_root_alone_to_read_is_written_so() -> None:
    secret = {str(STORE.fleet_file), str(STORE.origin), str(STORE.machines), str(STORE.marker)}
    scripts = [each.script.split() for each in configured(FLEET, Survey())]
    assert {words[2] for words in scripts if words[:1] == ["place"] and words[3] == "600"} == secret


def test_an_issuer_is_marked_as_one_only_once_all_else_is_there() -> None:
    steps = [each.name for each in configured(FLEET, Survey()) if each.script]
    assert steps[0] == "certsync in its own virtual environment"
    assert steps[-1] == "Issuer marker"


def test_roots_of_the_fleets_own_are_brought_and_without_them_nothing_is(tmp_path: Path) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_text("roots\n")
    made = replace(FLEET, authority=Authority("https://ca", roots=str(roots)))
    steps = configured(made, Survey())
    assert of("Roots for issued certificates", steps).text == "roots\n"
    assert "Roots for the CA's HTTPS" not in [each.name for each in steps]
    roots.unlink()
    script = of("Roots for issued certificates", configured(made, Survey())).script
    assert f"No such file or directory: '\"'\"'{roots}'\"'\"'' >&2; exit 1" in script


def test_notifications_need_another_release_that_loads_what_sends_them() -> None:
    script = issuer.installed(Survey(), notify=False).script
    with_them = issuer.installed(Survey(), notify=True).script
    assert script.endswith(" 'import certsync.issuer.ca.issuance'")
    assert with_them.endswith("-notify 'import certsync.issuer.ca.issuance, apprise'")


def forgotten(seen: Survey, address: str = "203.0.113.19") -> list[Step]:
    steps = issuer.forget(FLEET, "sum", {}, seen, name="backend-09", address=address)
    return [*steps]


def test_a_replica_that_left_is_forgotten_but_for_its_name() -> None:
    rule = "allow from 203.0.113.19 to any port 80 proto tcp"
    entries = {
        issuer.KNOWN_HOSTS: Entry("f", text=f"203.0.113.12 {KEY}\n203.0.113.19 {OTHER}\n"),
        str(STORE.left): Entry("f", text="backend-08\n"),
    }
    seen = Survey(HostFacts(ufw="active"), entries, rules=(rule, "allow 80/tcp"))
    steps = forgotten(seen)
    assert of("Firewall", steps).script == f"ufw delete {rule}"
    assert of("Pinned host keys of the replicas", steps).text.splitlines()[1:] == [
        f"203.0.113.12 {KEY}"
    ]
    assert of("Former machines", steps).text.splitlines()[1:] == ["backend-08", "backend-09"]
    assert "backend-09" not in of("List of machines", steps).text


def test_without_its_address_no_rule_is_taken_for_that_of_a_replica_that_left() -> None:
    rules = ("allow from  to any port 80 proto tcp",)
    seen = Survey(HostFacts(ufw="active"), rules=rules)
    assert not of("Firewall", forgotten(seen, "")).script


def test_a_new_issuer_takes_over_who_has_left_from_the_one_before() -> None:
    like = {"backend-01": Survey(entries={str(STORE.left): Entry("f", text="backend-08\n")})}
    promoted = replace(FLEET, issuer_name="backend-02")
    run = Run(FLEET, like, unreached=["backend-03"])
    replicas = [run.host(each.name) for each in promoted.replicas]
    for promoting, names in ((True, ["backend-08"]), (False, [])):
        steps = issuer.planned(promoted, "sum", replicas, Survey(), promoting=promoting)
        assert of("Former machines", steps).text.splitlines()[1:] == names


def test_a_name_that_is_in_the_fleet_again_has_not_left() -> None:
    again = replace(FLEET, balancers=(*FLEET.balancers, machine("balancer-02", 20)))
    lines = issuer.left(again, ["balancer-02\nbackend-08\n"]).splitlines()
    assert lines[1:] == ["backend-08"]
