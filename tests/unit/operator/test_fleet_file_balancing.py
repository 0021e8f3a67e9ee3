"""What a fleet file may say of the balancer's ways, of sessions, and of more certificates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from certsync.model.errors import FleetFileError, Mistake
from certsync.model.fleet import Fleet, Lineage
from certsync.model.options import KeyType, Provider, SiteKind, Stickiness
from certsync.operator.fleet_file import parse_fleet

TOP = 'names = ["www.example.com"]\npublic_addresses = ["203.0.113.10"]\n'
BALANCERS = '[balancers.balancer]\naddress = "203.0.113.10"\n'
SHOP = '[lineages.shop]\nnames = ["a.example.com"]\n'
REST = """\
[ca]
agree_to_terms = true
[backends.backend-01]
address = "203.0.113.11"
[backends.backend-02]
address = "203.0.113.12"
"""


def read(text: str = "", *, top: str = TOP, balancers: str = BALANCERS) -> Fleet:
    return parse_fleet(f"{top}{text}\n{balancers}{REST}", "f.toml", Path("/"))


def mistakes(text: str = "", *, top: str = TOP, balancers: str = BALANCERS) -> list[Mistake]:
    with pytest.raises(FleetFileError) as caught:
        read(text, top=top, balancers=balancers)
    return list(caught.value.mistakes)


def test_what_holds_unless_named() -> None:
    made = read()
    assert made.balancing.proxy_protocol
    assert (made.balancing.proxy_port, made.balancing.slow_start_seconds) == (8443, 30)
    assert made.balancing.stickiness is Stickiness.NONE
    assert made.share_tickets
    assert made.trusted == ("203.0.113.10",)
    assert made.lineages == (Lineage(("www.example.com",)),)


def test_what_is_named_holds() -> None:
    made = read(
        "[balancing]\nproxy_protocol = false\nproxy_port = 9443\nmax_connections = 500\n"
        "slow_start_seconds = 0\nconnections_per_client = 20\n"
        '[sessions]\nshare_tickets = false\nstickiness = "source"\n'
        "[site]\nredirect = true\nhsts_seconds = 600\n"
    )
    balancing = made.balancing
    assert (balancing.proxy_protocol, balancing.proxy_port) == (False, 9443)
    assert (balancing.max_connections, balancing.connections_per_client) == (500, 20)
    assert balancing.stickiness is Stickiness.SOURCE
    assert not made.share_tickets
    [lineage] = made.lineages
    assert (lineage.site.redirect, lineage.site.hsts_seconds) == (True, 600)
    assert Fleet.from_json(_written(made)) == made


def _written(made: Fleet) -> str:
    return json.dumps(made.to_json(), default=str)


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        ("[balancing]\nmax_connections = -1", "balancing.max_connections",
         "-1 is out of range", "write 0 to 1000000"),
        ("[balancing]\nslow_start_seconds = 3601", "balancing.slow_start_seconds",
         "3601 is out of range", "write 0 to 3600 seconds"),
        ("[site]\nhsts_seconds = -5", "site.hsts_seconds",
         "-5 is out of range", "write 0 to 63072000 seconds"),
        ("[balancing]\nproxy_port = 443", "balancing.proxy_port",
         "443 is in use for TLS", "the default is 8443"),
        ("[balancing]\nproxy_port = 22", "balancing.proxy_port",
         "22 is in use for SSH", "the default is 8443"),
        ('[site]\nkind = "proxy"\nupstream = "127.0.0.1:8443"', "balancing.proxy_port",
         "8443 is in use for upstream", "the default is 8443"),
        ('[sessions]\nstickiness = "cookie"', "sessions.stickiness",
         'unknown value "cookie"', "write one of: none, source"),
        ('[balancer]\nnetworks = ["10.0.0.0/24"]', "balancer.networks",
         'has no effect when balancer.provider is "haproxy"',
         "remove it: the balancers' addresses are known"),
        ('[balancer]\nvirtual_addresses = ["203.0.113.99"]', "balancer.virtual_addresses",
         "needs a second balancer for the addresses to move to",
         "add another [balancers.NAME], or remove it"),
        ('[site]\nkind = "unmanaged"\nredirect = true', "site.redirect",
         'has no effect when kind is "unmanaged"',
         'remove it, or set kind = "static" or "proxy"'),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place_and_what_to_write(
    text: str, place: str, message: str, hint: str
) -> None:
    assert mistakes(text) == [Mistake(place, message, hint)]


# Somebody else's balancer


def test_with_none_of_our_balancers_the_networks_say_who_is_trusted() -> None:
    text = '[balancer]\nprovider = "none"\nnetworks = ["10.0.0.0/24", "2001:db8::5"]\n'
    made = read(text, balancers="")
    assert made.balancer.provider is Provider.NONE
    assert made.balancers == ()
    assert made.trusted == ("10.0.0.0/24", "2001:db8::5")
    assert Fleet.from_json(_written(made)) == made


@pytest.mark.parametrize(
    ("text", "balancers", "place", "message", "hint"),
    [
        ('networks = ["10.0.0.0/24"]', BALANCERS, "balancers",
         'has no effect when balancer.provider is "none"',
         'remove them, or set provider = "haproxy"'),
        ('networks = ["10.0.0.0/24"]\nvirtual_addresses = ["203.0.113.99"]', "",
         "balancer.virtual_addresses", 'has no effect when balancer.provider is "none"',
         "remove it: DNS points to public_addresses"),
        ("", "", "balancer.networks",
         "is missing: the networks that the balancer connects from",
         'networks = ["10.0.0.0/24"], or proxy_protocol = false under [balancing]'),
        ('[firewall]\nweb_access = "balancers"\n[balancing]\nproxy_protocol = false', "",
         "balancer.networks", "is missing, and UFW would allow nobody but the balancer",
         'networks = ["10.0.0.0/24"], or web_access = "anywhere" under [firewall]'),
        ('networks = ["10.0.0.1/24"]', "", "balancer.networks",
         '"10.0.0.1/24" is not a network',
         'write its first address and prefix length: "10.0.0.0/24"'),
        ('networks = ["0.0.0.0/0"]', "", "balancer.networks",
         '"0.0.0.0/0" covers a large part of the Internet',
         "list only the balancer's networks: anybody in them could fake a client's address"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_somebody_elses_balancer_is_told(
    text: str, balancers: str, place: str, message: str, hint: str
) -> None:
    found = mistakes(f'[balancer]\nprovider = "none"\n{text}\n', balancers=balancers)
    assert found[:1] == [Mistake(place, message, hint)]


# A provider's balancer that is driven


def test_a_providers_balancer_is_named_by_its_identifier() -> None:
    text = '[balancer]\nprovider = "linode"\nload_balancer = "4711"\nnetworks = ["10.0.0.0/24"]\n'
    made = read(text, balancers="")
    assert made.balancer.provider is Provider.LINODE
    assert made.balancer.load_balancer == "4711"
    assert Fleet.from_json(_written(made)) == made


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ('provider = "linode"\nnetworks = ["10.0.0.0/24"]',
         Mistake("balancer.load_balancer", 'is missing: "linode" has many load balancers',
                 'its identifier at the provider: load_balancer = "4de7ac8b-…"')),
        ('provider = "linode"\nload_balancer = "1"',
         Mistake("balancer.networks", "is missing: the networks that the balancer connects from",
                 'networks = ["10.0.0.0/24"], or proxy_protocol = false under [balancing]')),
        ('provider = "linode"\nload_balancer = "7 8"\nnetworks = ["10.0.0.0/24"]',
         Mistake("balancer.load_balancer", '"7 8" is not a load balancer\'s identifier',
                 "copy it from the provider: letters, digits and ./:_- only, at most 256")),
        ('provider = "digitalocean"\nload_balancer = "1"\n[balancing]\nproxy_protocol = true',
         Mistake("balancing.proxy_protocol",
                 'is not possible with "digitalocean", which sends it on port 80 too or not at all',
                 "remove it: backends then see the balancer's address over HTTPS")),
    ],
)  # fmt: skip
def test_what_does_not_go_with_a_providers_balancer_is_told(text: str, mistake: Mistake) -> None:
    assert mistakes(f"[balancer]\n{text}\n", balancers="") == [mistake]


def test_an_identifier_has_no_effect_on_a_balancer_that_is_not_driven() -> None:
    [found] = mistakes('[balancer]\nload_balancer = "1"\n')
    assert found.place == "balancer.load_balancer"
    assert found.message == 'has no effect when balancer.provider is "haproxy"'
    assert found.hint.startswith('remove it, or set provider = "aws" or "digitalocean" or ')


def test_a_provider_that_is_misspelled_is_the_only_mistake() -> None:
    [found] = mistakes('[balancer]\nprovider = "linodes"\n', balancers="")
    assert (found.place, found.hint) == ("balancer.provider", 'did you mean "linode"?')


def test_digitaloceans_balancer_needs_no_networks_because_it_tells_no_client_addresses() -> None:
    made = read('[balancer]\nprovider = "digitalocean"\nload_balancer = "4de7ac8b"\n', balancers="")
    assert made.trusted == ()


def test_one_backend_at_least_serves_every_lineage_behind_a_providers_balancer() -> None:
    text = (
        '[balancer]\nprovider = "linode"\nload_balancer = "1"\nnetworks = ["10.0.0.0/24"]\n'
        '[lineages.shop]\nnames = ["shop.example.com"]\nserved_by = ["backend-01"]\n'
        '[lineages.docs]\nnames = ["docs.example.com"]\nserved_by = ["backend-02"]\n'
    )
    [found] = mistakes(text, balancers="")
    assert found.place == "balancer.provider"
    assert "no backend is in every served_by" in found.message


def test_a_virtual_address_is_no_machines_own() -> None:
    two = BALANCERS + '[balancers.balancer-02]\naddress = "203.0.113.20"\n'
    made = read('[balancer]\nvirtual_addresses = ["203.0.113.99"]', balancers=two)
    assert made.balancer.virtual_addresses == ("203.0.113.99",)
    assert mistakes('[balancer]\nvirtual_addresses = ["203.0.113.20"]', balancers=two) == [
        Mistake(
            "balancer.virtual_addresses",
            '"203.0.113.20" is also balancers.balancer-02.address',
            "it moves between balancers: use an address that no machine has",
        )
    ]


# More certificates


def test_a_lineage_has_what_it_says_and_else_what_the_fleet_says() -> None:
    made = read(
        '[certificate]\nkey_type = "rsa-3072"\nprofile = "classic"\n'
        '[site]\nroot = "/srv/www"\ntest_page = true\n'
        '[lineages.shop]\nnames = ["shop.example.net"]\nserved_by = ["backend-02"]\n'
        '[lineages.shop.certificate]\nkey_type = "ecdsa-p384"\n'
        '[lineages.shop.site]\nroot = "/srv/shop"\n'
        '[lineages.app]\nnames = ["app.example.net"]\n'
        '[lineages.app.site]\nkind = "proxy"\nupstream = "127.0.0.1:3000"\n'
    )
    first, shop, app = made.lineages
    assert first.key_type is KeyType.RSA_3072
    assert (shop.key_type, shop.profile) == (KeyType.ECDSA_P384, "classic")
    assert (shop.site.root, shop.site.test_page) == ("/srv/shop", True)
    assert shop.serving == ("backend-02",)
    assert (app.site.kind, app.site.upstream) == (SiteKind.PROXY, "127.0.0.1:3000")
    assert made.members(app) == made.backends
    assert Fleet.from_json(_written(made)) == made


@pytest.mark.parametrize(
    ("text", "top", "place", "message", "hint"),
    [
        ("[lineages.shop]\n", TOP, "lineages.shop.names", "needs at least one name",
         'the names on the certificate: names = ["www.example.com"]'),
        ('[lineages.shop]\nnames = ["www.example.com"]\n', TOP, "lineages.shop.names",
         '"www.example.com" is also in names',
         "connections are routed by name: keep one of them"),
        ('[lineages.shop]\nnames = ["a.example.com"]\nserved_by = ["backend-09"]\n', TOP,
         "lineages.shop.served_by", '"backend-09" is not a backend',
         "the backends are: backend-01, backend-02"),
        ("", TOP + 'served_by = ["backend-01", "backend-02", "backend-01"]\n', "served_by",
         '"backend-01" is listed twice', "keep one of them"),
        ("", TOP + 'served_by = ["backend-01"]\n', "backends.backend-02",
         "serves nothing: no served_by lists it", "add it to a served_by, or remove it"),
        ('[lineages.shop]\nnames = ["a.example.com", "a.example.com"]\n', TOP,
         "lineages.shop.names", '"a.example.com" is listed twice', "keep one of them"),
        ('[lineages.shop]\nnames = ["a.example.com"]\nsite = 5\n', TOP, "lineages.shop.site",
         "must be a table, not a whole number", "write [lineages.shop.site]"),
        ('[site]\ntest_page = true\nupstream = "127.0.0.1:1"\n' + SHOP, TOP, "site.upstream",
         'has no effect when kind is "static"', 'remove it, or set kind = "proxy"'),
        (SHOP + 'site.upstream = "127.0.0.1:1"\n', TOP, "lineages.shop.site.upstream",
         'has no effect when kind is "static"', 'remove it, or set kind = "proxy"'),
        (SHOP + 'certificate.key_type = "rsa"\n', TOP,
         "lineages.shop.certificate.key_type", 'unknown value "rsa"', 'did you mean "rsa-4096"?'),
    ],
)  # fmt: skip
def test_a_mistake_in_a_lineage_is_told_with_its_place(
    text: str, top: str, place: str, message: str, hint: str
) -> None:
    (found,) = mistakes(text, top=top)
    assert (found.place, found.message) == (place, message)
    assert found.hint == hint or place.endswith("key_type")


def test_the_issuer_may_serve_nothing_because_it_orders() -> None:
    shop = '[lineages.shop]\nnames = ["shop.example.net"]\nserved_by = ["backend-02"]\n'
    made = read(shop, top=TOP + 'served_by = ["backend-02"]\n')
    first = made.lineages[0]
    assert [each.name for each in made.members(first)] == ["backend-02"]
    assert made.holders(first) == made.backends
