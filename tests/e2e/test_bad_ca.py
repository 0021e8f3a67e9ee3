"""A CA in trouble, a clock that is wrong, a challenge that finds no way: told, kept, got over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from lab import Lab
from tests.e2e import faulty_ca
from tests.e2e.conftest import BringUp
from tests.e2e.road import LIVE, NAME, Road

PROFILES: dict[str, dict[str, object]] = {
    "shortlived": {"description": "six days", "validityPeriod": 6 * 86400}
}
HABITS = {
    "PEBBLE_WFE_NONCEREJECT": "50",
    "PEBBLE_VA_NOSLEEP": "0",
    "PEBBLE_VA_SLEEPTIME": "2",
    "PEBBLE_AUTHZREUSE": "0",
    "PEBBLE_CHAIN_LENGTH": "3",
    "PEBBLE_ALTERNATE_ROOTS": "1",
}
KEY = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
BINDING_KEY = "/etc/certsync/eab-hmac-key"
RENEWALS = 20
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet, not deployed yet, whose CA is difficult and wants its customers known."""
    with bring_up(Lab("badca"), prepared=True) as lab:
        lab.ca.restart(HABITS, PROFILES, {"kid-1": KEY})
        lab.ca.machine.sh(
            "cat > /run/faulty_ca.py; systemd-run -q --unit=faulty python3 /run/faulty_ca.py",
            input=Path(faulty_ca.__file__).read_text(),
        )
        road = Road(lab, tmp_path_factory.mktemp("badca"))
        road.edit(":14000/dir", f":{faulty_ca.PORT}/dir")
        yield road


def fault(road: Road, name: str) -> None:
    """Let the CA answer with a fault; an empty name: as it should."""
    assert name in ("", *faulty_ca.FAULTS)
    road.lab.ca.machine.sh(f"printf %s '{name}' > {faulty_ca.FAULT}")


def suggest(road: Road, start: timedelta) -> None:
    """Let the CA suggest an hour from then on, and forget what it said before."""
    now = datetime.now(timezone.utc)
    fullchain = road.issuer.sh(f"cat {LIVE}/fullchain.pem")
    road.lab.ca.suggest(fullchain, now + start, now + start + HOUR)
    road.issuer.sh("rm /var/lib/certsync/state.json")


# A customer that the CA has to know


def test_a_ca_that_wants_its_customers_known_is_told_of_with_what_to_set(road: Road) -> None:
    ended = road.deploy()
    assert ended.status == 1
    assert "this CA requires an external account binding" in ended.stderr
    assert "hint: get a key identifier and an HMAC key from the CA and set ca.eab_key_id" in (
        ended.stderr
    )


def test_the_secret_has_to_be_on_the_issuer_and_roots_alone(road: Road) -> None:
    road.edit("[ca]\n", '[certificate]\nprofile = "shortlived"\n\n[ca]\neab_key_id = "kid-1"\n')
    ended = road.deploy()
    assert ended.status == 1
    assert f"{BINDING_KEY}, the CA's HMAC key for kid-1, is missing" in ended.stderr
    assert "hint: on backend-01: sudo install -m 600 /dev/stdin" in ended.stderr
    road.issuer.sh(f"cat > {BINDING_KEY}; chmod 644 {BINDING_KEY}", input=KEY)
    ended = road.on_issuer("issue")
    assert ended.status == 1
    assert f"error: {BINDING_KEY} is readable by users other than root" in ended.stderr
    road.issuer.sh(f"chmod 600 {BINDING_KEY}; echo '!' > {BINDING_KEY}")
    assert "does not contain an HMAC key" in road.on_issuer("issue").stderr


def test_with_its_secret_the_account_is_bound_and_the_fleet_deployed(road: Road) -> None:
    road.issuer.sh(f"cat > {BINDING_KEY}", input=KEY)
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert KEY not in ended.everything
    assert not road.logged(road.issuer, KEY)
    road.issuer.sh("apt-get install -y -qq faketime")


# Half of all nonces refused, delays, no reuse, a chain of three


def test_twenty_of_twenty_renewals_succeed_with_a_difficult_ca(road: Road) -> None:
    orders = road.lab.ca.orders()
    for number in range(RENEWALS):
        ended = road.renew("--force")
        assert ended.status == 0, f"{number + 1}: {ended.everything}"
    assert road.lab.ca.orders() == orders + RENEWALS
    assert set(road.generations().values()) == {f"{RENEWALS + 1:04}"}
    log = road.lab.ca.log()
    # Each refused nonce is one more request for the same order.
    assert log.count("POST /order-plz") > RENEWALS * 1.3
    assert road.issuer.sh(f"grep -c BEGIN {LIVE}/fullchain.pem").strip() == "4"


# Answers that are none


@pytest.mark.parametrize(
    ("name", "status", "told", "again"),
    [
        ("429", 75, "the CA is busy (HTTP 429, too busy); retry after ", "+31m"),
        ("503", 75, "the CA is busy (HTTP 503, too busy); retry after ", "+31m"),
        ("json", 1, "the CA's answer is not valid ACME, while placing the order: ", "+2m"),
        ("close", 1, "the CA cannot be reached while placing the order: ", "+2m"),
    ],
)
def test_a_ca_in_trouble_is_told_of_and_asked_again_when_it_is_time(
    road: Road, name: str, status: int, told: str, again: str
) -> None:
    suggest(road, -2 * HOUR)
    before = road.generations()
    orders = road.lab.ca.orders()
    fault(road, name)
    try:
        ended = road.renew()
        assert (ended.status, told in ended.stderr) == (status, True), ended.everything
        tries = road.memory()["lineages"][NAME]["tries"]
        assert tries["count"] == 1
    finally:
        fault(road, "")
    ended = road.renew()
    assert ended.status == status
    assert "the next attempt is after " in ended.stderr
    assert (road.generations(), road.lab.ca.orders()) == (before, orders)
    assert len(road.pages()) == 3
    ended = road.renew(offset=again)
    assert ended.status == 0, ended.everything
    assert road.lab.ca.orders() == orders + 1
    assert road.generations() != before


def test_an_order_that_comes_to_nothing_is_not_followed_by_another_for_a_day(road: Road) -> None:
    suggest(road, -2 * HOUR)
    before = road.generations()
    fault(road, "invalid")
    try:
        ended = road.renew()
    finally:
        fault(road, "")
    assert ended.status == 1
    assert "error: the CA refused while signing the certificate: came to nothing" in ended.stderr
    orders = road.lab.ca.orders()
    for offset in ("+2m", "+15m", "+55m"):
        ended = road.renew(offset=offset)
        assert ended.status == 1
        assert "the next attempt is after " in ended.stderr
    assert (road.generations(), road.lab.ca.orders()) == (before, orders)


def test_a_person_need_not_wait_for_that(road: Road) -> None:
    ended = road.renew("--force")
    assert ended.status == 0, ended.everything
    assert road.memory()["lineages"][NAME]["tries"]["count"] == 0


# A challenge that finds no way


def test_a_renewal_waits_for_a_lost_challenge_and_is_made_all_the_same_before_expiry(
    road: Road,
) -> None:
    broken = road.replicas[-1]
    snippet = "/etc/nginx/snippets/certsync-challenge.conf"
    broken.sh(
        f"echo 'location ^~ /.well-known/acme-challenge/ {{ return 404; }}' > {snippet} "
        "&& systemctl reload nginx"
    )
    road.lab.balancer.sh(
        "for try in $(seq 60); do echo show stat | socat - /run/haproxy/admin.sock "
        "| grep -q '^challenge,backend-03,.*,DOWN,' && exit 0; sleep 0.5; done; exit 1"
    )
    suggest(road, -2 * HOUR)
    before, orders = road.generations(), road.lab.ca.orders()
    ended = road.renew()
    assert ended.status == 1
    assert (
        "error: nothing was ordered, because a challenge would not reach the issuer: backend-03 "
        "(203.0.113.13): answers HTTP 404; it is ordered anyway after "
    ) in ended.stderr
    assert (road.generations(), road.lab.ca.orders()) == (before, orders)
    # Due for so long that half of the time from then to expiry is gone.
    suggest(road, timedelta(days=-7))
    ended = road.renew()
    assert ended.status == 0, ended.everything
    assert "warning: a challenge may not reach the issuer: backend-03" in ended.stderr
    assert road.lab.ca.orders() == orders + 1
    assert len(set(road.generations().values())) == 1
    assert road.generations() != before


# A clock that is wrong


@pytest.mark.parametrize(
    ("offset", "told"),
    [
        ("+365d", "error: the issuer's clock is 365 days ahead of the CA's, so nothing was "),
        ("-1d", "error: the issuer's clock says "),
    ],
)
def test_a_clock_that_is_far_off_is_told_of_before_an_order_and_nothing_is_overwritten(
    road: Road, offset: str, told: str
) -> None:
    everything = "find /etc/certsync ! -type d -exec ls -l --time-style=full-iso {} + | sort"
    before = {machine.name: machine.sh(everything) for machine in road.lab.backends}
    orders = road.lab.ca.orders()
    for options in ((), ("--force",)):
        ended = road.renew(*options, offset=offset)
        assert ended.status == 1
        assert told in ended.stderr
        assert "ticket" not in ended.stdout
    assert {machine.name: machine.sh(everything) for machine in road.lab.backends} == before
    assert road.lab.ca.orders() == orders
    assert len(road.pages()) == 3


def test_with_the_right_clock_all_is_well_again(road: Road) -> None:
    ended = road.renew()
    assert (ended.status, ended.stdout) == (0, "nothing was due\n")


# A chain that leads elsewhere


ROOTS = "/etc/certsync/roots.pem"


def test_a_chain_that_does_not_lead_to_the_fleets_roots_goes_live_nowhere(road: Road) -> None:
    # The challenges of before find their way again.
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    before, failed = road.generations(), tries(road)
    # The root of the CA's own HTTPS has signed no certificate of the fleet's.
    road.issuer.sh(f"cp {ROOTS} {ROOTS}.was; cp /etc/certsync/directory-bundle.pem {ROOTS}")
    try:
        ended = road.renew("--force")
    finally:
        road.issuer.sh(f"mv {ROOTS}.was {ROOTS}")
    assert ended.status == 1
    assert "the CA's chain does not lead to the roots that clients should trust: " in ended.stderr
    assert road.generations() == before
    assert tries(road) == failed + 1
    assert road.renew("--force").status == 0
    assert tries(road) == 0


def tries(road: Road) -> int:
    """Return how many tries have failed since the last certificate."""
    return int(road.memory()["lineages"][NAME]["tries"]["count"])


def test_another_chain_of_the_cas_is_taken_where_it_leads_there(road: Road) -> None:
    first = road.issuer.sh(f"cat {LIVE}/chain.pem")
    road.issuer.sh(f"cp {ROOTS} {ROOTS}.was; cat > {ROOTS}", input=road.lab.ca.root(1))
    try:
        ended = road.renew("--force")
    finally:
        road.issuer.sh(f"mv {ROOTS}.was {ROOTS}")
    assert ended.status == 0, ended.everything
    other = road.issuer.sh(f"cat {LIVE}/chain.pem")
    assert (other.count("BEGIN"), other == first) == (first.count("BEGIN"), False)
    assert road.renew("--force").status == 0
    # The balancer knows the first root alone, and has taken nobody out for good.
    road.lab.balancer.sh(
        "for try in $(seq 60); do echo show stat | socat - /run/haproxy/admin.sock "
        "| grep '^tls,' | grep -q ',DOWN,' || exit 0; sleep 0.5; done; exit 1"
    )
