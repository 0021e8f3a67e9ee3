"""CAA records that name an account, asked of a DNS server of the test's own on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest

from certsync.model.caa import Property, Records
from certsync.system import caa
from certsync.system.caa import Pin

ACCOUNT = "https://ca.example/acct/1"
ZONE = {
    "example.com.": ['0 issue "other.example"', f'0 issue "ca.example; accounturi={ACCOUNT}"'],
    "shop.example.com.": ['0 issue "ca.example"'],
    "www.example.net.": [],
    "example.net.": [
        f'0 issuewild "ca.example; validationmethods=http-01;accounturi = {ACCOUNT}"',
        '0 iodef "mailto:a@example.net"',
    ],
    "free.example.org.": [],
    "odd.example.": ['0 issue "ca\\255\\027.example"'],
}
"""Names that are there, with their CAA records; all others are not."""


def answered(wire: bytes) -> bytes:
    query = dns.message.from_wire(wire)
    question = query.question[0]
    answer = dns.message.make_response(query)
    answer.flags |= dns.flags.RA
    name = question.name.to_text()
    if name.endswith("broken.example."):
        answer.set_rcode(dns.rcode.SERVFAIL)
    elif name not in ZONE:
        answer.set_rcode(dns.rcode.NXDOMAIN)
    elif ZONE[name]:
        answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", "CAA", *ZONE[name]))
    return answer.to_wire()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Return the socket of a DNS server that runs."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                wire, sender = one.recvfrom(4096)
                if not wire:
                    return
                one.sendto(answered(wire), sender)

        thread = threading.Thread(target=serve)
        thread.start()
        yield one
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", one.getsockname())
        thread.join()


def asking(port: int, seconds: float = 5) -> dns.resolver.Resolver:
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], port
    resolver.lifetime = seconds
    return resolver


@pytest.mark.parametrize(
    ("names", "pins"),
    [
        pytest.param(["a.b.example.com"], [Pin("example.com", "ca.example", ACCOUNT)], id="climbs"),
        pytest.param(
            ["example.com", "a.example.com"],
            [Pin("example.com", "ca.example", ACCOUNT)],
            id="each record set once",
        ),
        pytest.param(["shop.example.com"], [], id="the closest records count, and name no account"),
        pytest.param(
            ["www.example.net"],
            [Pin("example.net", "ca.example", ACCOUNT)],
            id="a name without CAA records, and a property for wildcards",
        ),
        pytest.param(["free.example.org", "gone.example.org"], [], id="no records up to the top"),
    ],
)
def test_the_closest_records_are_asked_for_accounts(
    server: socket.socket, names: list[str], pins: list[Pin]
) -> None:
    told: list[str] = []
    assert caa.look_up(names, told.append, asking(server.getsockname()[1])) == pins
    assert told == []


def test_a_resolver_that_does_not_answer_is_told_and_is_no_error() -> None:
    told: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        found = caa.look_up(["example.com"], told.append, asking(silent.getsockname()[1], 0.5))
    assert found == []
    assert len(told) == 1
    assert told[0].startswith("looking up CAA records failed: The resolution lifetime expired")


@pytest.mark.parametrize(
    ("tag", "value", "pin"),
    [
        ("issue", ";", None),
        ("issue", "ca.example", None),
        ("ISSUE", "ca.example ; AccountURI=x", Pin("n", "ca.example", "x")),
        ("iodef", "ca.example; accounturi=x", None),
        ("issue", "ca.example; policy=ev; accounturi=https://a/?b=c", Pin("n", "ca.example", "https://a/?b=c")),
    ],
)  # fmt: skip
def test_a_property_names_an_account_in_its_parameters(
    tag: str, value: str, pin: Pin | None
) -> None:
    found = Records("n", (Property(0, tag.lower(), value),))
    assert caa._pins(found) == ([pin] if pin else [])


# What was found for each name


def test_every_name_has_the_records_that_are_closest_to_it(server: socket.socket) -> None:
    names = ["a.b.example.com", "shop.example.com", "gone.example.org"]
    found = caa.records(names, asking(server.getsockname()[1]))
    assert [found[name].at for name in names] == ["example.com", "shop.example.com", ""]
    assert found["shop.example.com"].properties == (Property(0, "issue", "ca.example"),)
    assert found["gone.example.org"] == Records()


def test_a_zone_that_is_broken_is_told_from_a_resolver_that_is_silent(
    server: socket.socket,
) -> None:
    resolver = asking(server.getsockname()[1])
    found = caa.records(["www.broken.example", "shop.example.com"], resolver)
    assert found["www.broken.example"].broken
    assert "SERVFAIL" in found["www.broken.example"].failure
    assert not found["shop.example.com"].failure, "one name's failure is not another's"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        (hiccup,) = caa.records(["a.example"], asking(silent.getsockname()[1], 0.5)).values()
    assert hiccup.failure
    assert not hiccup.broken


def test_bytes_that_are_no_text_are_no_error(server: socket.socket) -> None:
    (found,) = caa.records(["odd.example"], asking(server.getsockname()[1])).values()
    assert [each.ca for each in found.properties] == [""]
