"""Before a deploy changes anything: what stops the whole run, and who has to let go first."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pyinfra.api.exceptions import PyinfraError

from certsync.model.fleet import SCHEMA, Fleet
from certsync.model.options import Balancing
from certsync.operator.balancer.gate import Gate
from certsync.operator.hosts.facts import Adopt, HostFacts
from certsync.operator.hosts.survey import Entry, Survey
from certsync.operator.rendering import templates
from deploy import issuer, preflight, surveys
from deploy.balancer import CONFIGURATION
from deploy.preflight import refuse_foreign_servers
from tests.unit.fake_fleet import NAME, fleet, lineage, machine
from tests.unit.fake_run import Run

FLEET = fleet()
SHOP = "shop.example.com"


def deployed(made: Fleet) -> Survey:
    """Return what an issuer is like that has this fleet."""
    return Survey(entries={preflight.DEPLOYED: Entry("f", text=issuer.rendered(made))})


def serving(made: Fleet, *members: str) -> Survey:
    """Return what a balancer is like that passes every lineage on to these backends."""
    names = [each.name for each in made.backends]
    inside = {name: name in members for name in names}
    pools = {each.name: inside for each in made.lineages}
    gate = Gate(True, pools, inside, dict.fromkeys(names, 8443))
    text = templates.haproxy(made, made.balancers[0], gate)
    return Survey(entries={CONFIGURATION: Entry("f", text=text)})


def refusal(run: Run, made: Fleet, adopt: Adopt | None = None) -> str:
    with pytest.raises(PyinfraError) as caught:
        refuse_foreign_servers(run.state, made, adopt or Adopt())
    return str(caught.value)


FOREIGN = {
    "backend-02": Survey(HostFacts(nginx_sites=(("foreign", "/etc/nginx/sites-enabled/own"),))),
    "balancer": Survey(HostFacts(haproxy="foreign")),
}


def test_all_that_is_somebody_elses_is_told_at_once_host_by_host(
    events: Callable[[], list[dict[str, Any]]],
) -> None:
    told = (
        "backend-02: /etc/nginx/sites-enabled/own is an nginx site that certsync did not write\n"
        '  hint: keep it with site.kind = "unmanaged", or move it aside with --adopt-nginx\n'
        "balancer: /etc/haproxy/haproxy.cfg is neither the distribution's nor certsync's\n"
        "  hint: replace it with --adopt-haproxy, which keeps a dated copy"
    )
    assert refusal(Run(FLEET, FOREIGN), FLEET) == f"nothing was changed on any host:\n{told}"
    assert events() == [{"event": "refused", "text": told}]


def test_what_may_be_taken_over_is_no_objection_and_the_rest_is() -> None:
    text = refusal(Run(FLEET, FOREIGN), FLEET, Adopt(haproxy=True))
    assert "own is an nginx site" in text
    assert "haproxy.cfg" not in text
    refuse_foreign_servers(Run(FLEET, FOREIGN).state, FLEET, Adopt(nginx=True, haproxy=True))


def test_each_host_that_is_reached_is_looked_at_once_however_many_wait_for_it() -> None:
    run = Run(FLEET, unreached=["backend-03"])
    for each in FLEET.machines:
        refuse_foreign_servers(run.state, FLEET, Adopt())
        # What this run has begun to change is no objection to it.
        surveys.forget(run.host(each.name))
    names = ["backend-01", "backend-02", "balancer"]
    assert sorted(run.asked) == [(name, "look") for name in names]
    assert (preflight.letting_go(run.state), preflight.no_longer_trusted(run.state)) == ([], [])


def test_a_run_that_was_refused_is_refused_to_the_next_host_that_asks_too() -> None:
    run = Run(FLEET, FOREIGN)
    assert refusal(run, FLEET) == refusal(run, FLEET)


def test_who_has_been_the_issuer_is_an_objection_unless_another_takes_over() -> None:
    was = {"backend-02": Survey(HostFacts(issuer=True))}
    assert refusal(Run(FLEET, was), FLEET).splitlines()[1] == (
        "backend-02: it is this fleet's issuer, but the fleet file names backend-01"
    )
    refuse_foreign_servers(Run(FLEET, was).state, FLEET, Adopt(), promoting=True)


def test_a_lineage_that_all_who_serve_it_are_to_leave_stops_the_run() -> None:
    like = {"balancer": serving(FLEET, "backend-01", "backend-02")}
    others = fleet(serving=("backend-03",))
    assert refusal(Run(others, like), others).splitlines()[1:] == [
        f"balancer: none of the backends that serve {NAME} now would still serve it",
        (
            "  hint: new backends are admitted at the end of a deploy, once they are proven: add "
            "them to served_by, deploy, then remove the old ones and deploy again"
        ),
    ]
    # One of those who serve it now is enough.
    some = fleet(serving=("backend-02", "backend-03"))
    refuse_foreign_servers(Run(some, like).state, some, Adopt())


def with_shop(made: Fleet, *names: str) -> Fleet:
    return replace(made, lineages=(*made.lineages, lineage(*names)))


def test_a_name_that_would_be_without_a_certificate_stops_the_run() -> None:
    before = fleet(names=(NAME, SHOP))
    like = {"backend-01": deployed(before), "balancer": serving(before, "backend-01")}
    after = with_shop(FLEET, SHOP)
    assert refusal(Run(after, like), after).splitlines()[1:] == [
        (
            f"balancer: {SHOP} would have no certificate until {SHOP} gets a new one: a lineage is "
            "identified by its first name, and its current certificate only covers the names it had"
        ),
        (
            "  hint: keep each name in its lineage, and the first one first; or, if an outage is "
            "acceptable: `certsync passthrough off`, deploy, `certsync passthrough on`, and deploy "
            "again"
        ),
    ]
    new = with_shop(FLEET, "new.example.com")
    refuse_foreign_servers(Run(new, like).state, new, Adopt())


RENUMBERED = replace(FLEET, balancing=Balancing(proxy_port=9443))


def test_a_balancer_that_would_go_on_sending_to_a_port_that_goes_away_has_to_be_reached() -> None:
    like = {"backend-01": deployed(FLEET)}
    assert refusal(Run(RENUMBERED, like, unreached=["balancer"]), RENUMBERED).splitlines()[1:] == [
        (
            "balancer: it cannot be reached, and would keep sending connections to a port or a "
            "site that the backends are about to remove"
        ),
        "  hint: bring it back first, or remove it from the fleet file if it no longer exists",
    ]
    # Nothing goes away for it where the fleet is as it was.
    refuse_foreign_servers(Run(FLEET, like, unreached=["balancer"]).state, FLEET, Adopt())


def test_a_balancer_that_is_new_sends_nothing_yet_and_need_not_let_go() -> None:
    joined = replace(RENUMBERED, balancers=(*FLEET.balancers, machine("balancer-02", 20)))
    run = Run(joined, {"backend-01": deployed(FLEET)}, unreached=["balancer-02"])
    refuse_foreign_servers(run.state, joined, Adopt())
    run = Run(joined, {"backend-01": deployed(FLEET)})
    refuse_foreign_servers(run.state, joined, Adopt())
    assert [each.name for each in preflight.letting_go(run.state)] == ["balancer"]


def test_a_balancer_whose_address_changes_lets_go_and_is_trusted_no_more() -> None:
    moved = replace(FLEET, balancers=(machine("balancer", 99),))
    run = Run(moved, {"backend-01": deployed(FLEET)})
    refuse_foreign_servers(run.state, moved, Adopt())
    assert preflight.no_longer_trusted(run.state) == ["balancer"]
    assert [each.name for each in preflight.letting_go(run.state)] == ["balancer"]


@pytest.mark.parametrize(
    ("text", "unreached"),
    [
        ("", ()),
        (json.dumps({"schema": SCHEMA + 1}), ()),
        ("Welcome", ()),
        (issuer.rendered(FLEET), ("backend-01",)),
    ],
)
def test_where_the_issuer_tells_no_fleet_that_we_read_nothing_is_said_to_go_away(
    text: str, unreached: tuple[str, ...]
) -> None:
    like = {"backend-01": Survey(entries={preflight.DEPLOYED: Entry("f", text=text)})}
    run = Run(RENUMBERED, like, unreached=unreached)
    refuse_foreign_servers(run.state, RENUMBERED, Adopt())
    assert preflight.letting_go(run.state) == []


def test_what_another_backend_has_of_a_fleet_file_is_not_the_issuers_word() -> None:
    run = Run(RENUMBERED, {"backend-02": deployed(FLEET)})
    refuse_foreign_servers(run.state, RENUMBERED, Adopt())
    assert preflight.letting_go(run.state) == []
