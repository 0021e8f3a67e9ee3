"""nginx and what certificates come in by on a backend: what it gets, and what it loses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from certsync.model.fleet import Fleet, Machine
from certsync.model.options import Firewall, Site, SiteKind, WebAccess
from certsync.model.paths import TICKETS_UNIT, VERIFY_UNIT
from certsync.operator.hosts.facts import HostFacts
from certsync.operator.hosts.survey import Entry, Survey, Unit
from deploy import backend
from deploy.step import Step
from tests.unit.fake_fleet import NAME, fleet, lineage

FLEET = fleet()
ISSUER, REPLICA, LAST = FLEET.backends
SHOP = "shop.example.com"
RUNS = Unit("active", "enabled", is_outdated=False)


def with_shop(kind: SiteKind = SiteKind.STATIC) -> Fleet:
    """Return a fleet with a second lineage, of two names, that one replica serves."""
    names = (SHOP, f"www.{SHOP}")
    shop = lineage(*names, serving=(REPLICA.name,), site=Site(kind=kind))
    return fleet(lineages=(lineage(), shop))


def configured(
    made: Fleet, machine: Machine = REPLICA, seen: Survey | None = None, *, adopt: bool = False
) -> dict[str, Step]:
    steps = backend.configure(made, machine, seen or Survey(), adopt=adopt)
    return {each.name: each for each in steps}


def scripts(steps: Mapping[str, Step]) -> list[str]:
    return [each.script for each in steps.values() if each.script]


def nginx_files(made: Fleet, seen: Survey) -> dict[str, str]:
    """Return the files that nginx would be given, by their paths."""
    files = configured(made, REPLICA, seen)["nginx"].files
    assert isinstance(files, Mapping)
    changes = json.loads(str(files["changes"]))
    return {path: str(files[source]) for what, path, source in changes if what == "place"}


def test_an_issuer_needs_more_of_the_distribution_than_a_replica() -> None:
    common = {"nginx", "rsync", "openssl", "sudo", "python3", "ca-certificates"}
    seen = Survey(packages=frozenset(common))
    assert [each.script for each in backend.packages(FLEET, REPLICA, seen)] == [""]
    [made] = backend.packages(FLEET, ISSUER, seen)
    assert made.script == "packages python3-venv cron openssh-client"


def test_each_lineage_that_a_backend_holds_has_a_placeholder_for_all_its_names() -> None:
    steps = configured(with_shop())
    receiver = "/usr/local/lib/certsync/receiver"
    assert [each for each in scripts(steps) if " placeholder " in each] == [
        f"{receiver} placeholder {NAME}", f"{receiver} placeholder {SHOP} www.{SHOP}"
    ]  # fmt: skip
    assert f"Placeholder certificate, generation 0000 of {SHOP}" in steps


@pytest.mark.parametrize(("kind", "made"), [("l", False), ("d", True)])
def test_a_placeholder_is_made_where_no_link_leads_to_a_certificate(kind: str, made: bool) -> None:
    seen = Survey(entries={f"/etc/certsync/live/{NAME}": Entry(kind)})
    assert (
        bool(configured(FLEET, seen=seen)["Placeholder certificate, generation 0000"].script)
        is made
    )


@pytest.mark.parametrize("machine", [ISSUER, REPLICA, LAST])
def test_a_key_that_others_serve_goes_once_nginx_no_longer_names_it(machine: Machine) -> None:
    seen = Survey(entries={f"/etc/certsync/archive/{SHOP}": Entry("d")})
    steps = configured(with_shop(), machine, seen)
    gone = f"No certificate of {SHOP}"
    # The issuer has every certificate: it is who orders and sends them.
    assert (gone in steps) is (machine is LAST)
    if machine is LAST:
        assert [*steps].index("nginx") < [*steps].index(gone)
        assert steps[gone].script == (
            f"rm -rf /etc/certsync/live/{SHOP} /etc/certsync/archive/{SHOP} "
            f"/etc/nginx/snippets/ssl-{SHOP}.conf"
        )


def test_a_key_that_was_never_there_is_not_taken_away_and_one_that_a_person_names_stays() -> None:
    assert not configured(with_shop(), LAST)[f"No certificate of {SHOP}"].script
    seen = Survey(entries={f"/etc/certsync/archive/{SHOP}": Entry("d")})
    own = configured(with_shop(SiteKind.UNMANAGED), LAST, seen)
    assert f"No certificate of {SHOP}" not in own


def firewall(made: Fleet, machine: Machine, *rules: str) -> list[str]:
    seen = Survey(HostFacts(ufw="active"), rules=rules)
    return configured(made, machine, seen)["Firewall"].script.split(" &&\n")


CLOSED = replace(FLEET, firewall=Firewall(web_access=WebAccess.BALANCERS))


def test_a_backend_that_anybody_may_reach_lets_the_balancers_in_on_their_port() -> None:
    assert firewall(FLEET, REPLICA) == [
        "ufw allow 'Nginx Full'", "ufw allow from 203.0.113.10 to any port 8443 proto tcp"
    ]  # fmt: skip


def test_a_replica_behind_its_balancers_is_reached_by_the_issuer_too() -> None:
    assert firewall(CLOSED, REPLICA) == [
        "ufw allow from 203.0.113.10 to any port 80,443,8443 proto tcp",
        "ufw allow from 203.0.113.11 to any port 80,443 proto tcp",
    ]


def test_an_issuer_behind_its_balancers_hears_challenges_that_replicas_pass_on() -> None:
    assert firewall(CLOSED, ISSUER) == [
        "ufw allow from 203.0.113.10 to any port 80,443,8443 proto tcp",
        "ufw allow from 203.0.113.12 to any port 80 proto tcp",
        "ufw allow from 203.0.113.13 to any port 80 proto tcp",
    ]


def test_a_backend_is_closed_to_everybody_only_after_the_balancers_may_come() -> None:
    assert firewall(CLOSED, REPLICA, backend.EVERYBODY)[-1] == f"ufw delete {backend.EVERYBODY}"
    assert backend.EVERYBODY not in " ".join(firewall(FLEET, REPLICA, backend.EVERYBODY))


def test_shared_ticket_keys_are_there_before_nginx_and_after_their_unit() -> None:
    steps = [*configured(FLEET)]
    assert steps.index("Session ticket keys before nginx starts") < steps.index("systemd reload")
    assert steps.index("systemd reload") < steps.index("Session ticket keys")
    assert steps.index("Session ticket keys") < steps.index("nginx")


@pytest.mark.parametrize(
    ("there", "enabled", "made"),
    [(True, "enabled", False), (True, "disabled", True), (False, "enabled", True)],
)
def test_ticket_keys_are_made_where_none_are_or_none_will_be_after_a_reboot(
    there: bool, enabled: str, made: bool
) -> None:
    units = {TICKETS_UNIT: replace(RUNS, enabled=enabled)}
    seen = Survey(units=units, has_ticket_keys=there)
    assert bool(configured(FLEET, seen=seen)["Session ticket keys"].script) is made


def test_where_no_ticket_keys_are_shared_nothing_names_them() -> None:
    steps = configured(replace(FLEET, share_tickets=False))
    assert [name for name in steps if "ticket" in name.lower()] == []
    assert "certsync-tickets" not in " ".join(scripts(steps))


def test_a_unit_that_an_interrupted_run_has_written_is_read_by_systemd() -> None:
    unread = {VERIFY_UNIT: replace(RUNS, is_outdated=True)}
    seen = Survey(units=unread)
    units = {
        path: Entry("f", "644", "root", "root", each.text, size=len(each.text.encode()))
        for each in configured(FLEET).values()
        for path in each.script.split()[2:3]
        if path.startswith("/etc/systemd/")
    }
    steps = configured(FLEET, seen=replace(seen, entries=units))
    assert not steps["Verification at boot"].script
    assert steps["systemd reload"].script


FOREIGN = Survey(
    HostFacts(nginx_sites=(("foreign", "/etc/nginx/sites-enabled/own"), ("ours", "/x")))
)


def test_other_sites_are_put_aside_where_they_may_be_taken_over_and_before_nginx_changes() -> None:
    name = "Move other sites aside"
    steps = configured(FLEET, seen=FOREIGN, adopt=True)
    assert "/etc/nginx/sites-enabled/own" in steps[name].script
    assert "/x" not in steps[name].script
    assert [*steps].index(name) < [*steps].index("nginx")
    assert name not in configured(FLEET, seen=FOREIGN)


def test_no_site_is_put_aside_where_one_of_them_is_a_persons_own() -> None:
    own = fleet(site=Site(kind=SiteKind.UNMANAGED))
    assert not configured(own, seen=FOREIGN, adopt=True)["Move other sites aside"].script


def test_a_test_page_is_there_if_one_of_the_sites_wants_it() -> None:
    assert "Test page" not in configured(FLEET)
    wanting = fleet(site=Site(test_page=True))
    assert REPLICA.name in configured(wanting)["Test page"].text


@pytest.mark.parametrize(
    ("nginx", "own_line"), [((1, 25, 1), True), ((1, 26), True), ((1, 25, 0), False), ((), False)]
)
def test_http2_is_asked_for_in_the_way_that_this_nginx_understands(
    nginx: tuple[int, ...], own_line: bool
) -> None:
    files = nginx_files(FLEET, Survey(versions={"nginx": nginx} if nginx else {}))
    text = files[f"/etc/nginx/sites-available/certsync-{NAME}.conf"]
    assert ("http2 on;" in text) is own_line


@pytest.mark.parametrize(("openssl", "named"), [((3, 5, 0), True), ((3, 4, 9), False)])
def test_a_group_is_named_only_where_openssl_knows_it(
    openssl: tuple[int, ...], named: bool
) -> None:
    files = nginx_files(FLEET, Survey(versions={"openssl": openssl}))
    assert ("X25519MLKEM768" in " ".join(files.values())) is named


def test_the_size_for_long_names_is_left_to_somebody_elses_file_that_sets_it() -> None:
    long = fleet(names=(f"{'a' * 60}.example.com",))
    for own, written in ((False, True), (True, False)):
        text = " ".join(nginx_files(long, Survey(has_own_bucket=own)).values())
        assert ("server_names_hash_bucket_size" in text) is written
