"""Do the names lead to the fleet, and would a challenge arrive?"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from certsync.issuer import canary
from certsync.issuer.canary import Sighting, judge
from certsync.system import dns, http_get
from certsync.system.deadline import within
from certsync.system.dns import Found, findings, look_up, look_up_all, records
from tests.unit.fake_fleet import NAME, fleet, machine

FLEET = fleet()
V4, V6 = FLEET.public_addresses


@pytest.mark.parametrize(
    ("found", "message", "stops"),
    [
        ((V4, V6), None, False),
        ((V4, "2001:db8:113:0::10"), None, False),
        ((f"::ffff:{V4}", V6), None, False),
        ((V4, f"64:ff9b::{V4}"), f"{NAME} has no AAAA record {V6}", False),
        (
            ("::ffff:203.0.113.12",),
            (
                f"{NAME} resolves to ::ffff:203.0.113.12, which is backend-02: "
                "it must point to the balancer"
            ),
            True,
        ),
        (
            (V4, V6, "64:ff9b::192.0.2.1"),
            f"{NAME} resolves to 64:ff9b::192.0.2.1, which is not a public address of the fleet",
            True,
        ),
        ((), f"{NAME} has no A or AAAA record", True),
        ((V4,), f"{NAME} has no AAAA record {V6}", False),
        (
            ("203.0.113.12",),
            f"{NAME} resolves to 203.0.113.12, which is backend-02: it must point to the balancer",
            True,
        ),
        (
            (V4, "192.0.2.1"),
            f"{NAME} resolves to 192.0.2.1, which is not a public address of the fleet",
            True,
        ),
    ],
)
def test_records_are_compared_with_the_public_addresses(
    found: tuple[str, ...], message: str | None, stops: bool
) -> None:
    seen = [(each.message, each.stops) for each in findings(FLEET, [NAME], {NAME: Found(found)})]
    assert seen == ([] if message is None else [(message, stops)])


INNER = replace(
    FLEET,
    backends=(machine("web-1", 11, address="web-1.example", private_address="10.0.0.11"),),
    balancers=(machine("balancer", 10, private_address="10.0.0.10"),),
    issuer_name="web-1",
)


@pytest.mark.parametrize(
    ("addresses", "stops"),
    [
        (("127.0.1.1",), False),
        (("::1",), False),
        (("10.0.0.10",), False),
        (("10.0.0.11", V4), False),
        (("::ffff:127.0.1.1",), False),
        (("::ffff:10.0.0.10", "64:ff9b::a00:a"), False),
        (("64:ff9b::7f00:101", V4), False),
        (("fe80::1%1",), True),
        (("10.0.0.12",), True),
        (("127.0.1.1", "192.0.2.1"), True),
        (("203.0.113.11",), True),
    ],
)
def test_what_only_this_machine_is_led_to_does_not_stop(
    addresses: tuple[str, ...], stops: bool
) -> None:
    [finding] = findings(INNER, [NAME], {NAME: Found(addresses)})
    assert finding.stops is stops
    assert ("on this machine" in finding.message) is not stops


@pytest.mark.parametrize(
    ("code", "failed"),
    [
        (socket.EAI_NONAME, False),
        (socket.EAI_NODATA, False),
        (socket.EAI_AGAIN, True),
        (socket.EAI_FAIL, True),
        (socket.EAI_SYSTEM, True),
    ],
)
def test_a_look_up_that_failed_is_told_from_a_name_without_records(
    monkeypatch: pytest.MonkeyPatch, code: int, failed: bool
) -> None:
    def fails(*_args: object, **_named: object) -> None:
        raise socket.gaierror(code, "no luck")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    assert look_up_all([NAME, "b.example"]) == dict.fromkeys(
        (NAME, "b.example"), Found(failure="no luck" if failed else "")
    )
    [finding] = findings(FLEET, [NAME], {NAME: look_up(NAME)})
    assert (finding.unknown, finding.stops) == (failed, not failed)


def test_a_look_up_that_takes_too_long_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "resolved", lambda *_args: within(0.1, threading.Event().wait))
    assert look_up(NAME) == Found(failure="no answer within 0.1 s")


def test_the_records_to_set_are_exact() -> None:
    assert records(FLEET, [NAME]) == [f"{NAME}. A 203.0.113.10", f"{NAME}. AAAA 2001:db8:113::10"]


def seen(
    where: str, *, reached: bool = True, good: bool = True, answer: str = "HTTP 404", **how: bool
) -> Sighting:
    public = where in FLEET.public_addresses
    return Sighting(where, where, public, reached, seen=reached and good, answer=answer, **how)


ALL = [seen(host.name) for host in FLEET.backends] + [seen(V4), seen(V6)]


def changed(*other: Sighting) -> list[Sighting]:
    names = {each.where: each for each in other}
    return [names.get(each.where, each) for each in ALL]


@pytest.mark.parametrize(
    ("sightings", "misses", "told"),
    [
        pytest.param(ALL, (), (), id="all see it"),
        pytest.param(
            changed(seen("backend-02", good=False)),
            ("backend-02 (backend-02): answers HTTP 404",),
            (),
            id="a replica that loses challenges stops",
        ),
        pytest.param(
            changed(seen("backend-02", reached=False, answer="timed out")),
            (),
            ("backend-02 (backend-02): not reached on port 80: timed out",),
            id="a backend out of reach is told",
        ),
        pytest.param(
            changed(seen(V6, reached=False, answer="refused")),
            (f"{V6}: not reached: refused",),
            (),
            id="one family that does not arrive stops",
        ),
        pytest.param(
            changed(seen(V4, reached=False, answer="x"), seen(V6, reached=False, answer="x")),
            (),
            (f"{V4}: not reached from the issuer: x", f"{V6}: not reached from the issuer: x"),
            id="no hairpin NAT is told",
        ),
        pytest.param(
            changed(
                seen(V4, reached=False, answer="no", refused=True),
                seen(V6, reached=False, answer="no", refused=True),
            ),
            (f"{V4}: not reached: no", f"{V6}: not reached: no"),
            (),
            id="a balancer that refuses connections stops",
        ),
        pytest.param(
            changed(
                seen(V4, reached=False, answer="no", refused=True),
                seen(V6, reached=False, answer="x"),
            ),
            (f"{V4}: not reached: no", f"{V6}: not reached: x"),
            (),
            id="and so does another address that then says nothing",
        ),
        pytest.param(
            changed(seen(V6, reached=False, answer="x", no_route=True)),
            (),
            (f"{V6}: not reached from the issuer: x",),
            id="an issuer without IPv6 is told",
        ),
        pytest.param(
            changed(
                seen(V4, reached=False, answer="y"),
                seen(V6, reached=False, answer="x", no_route=True),
            ),
            (),
            (f"{V6}: not reached from the issuer: x", f"{V4}: not reached from the issuer: y"),
            id="and without hairpin NAT too",
        ),
        pytest.param(
            changed(
                seen(V4, reached=False, answer="no", refused=True),
                seen(V6, reached=False, answer="x", no_route=True),
            ),
            (f"{V4}: not reached: no",),
            (f"{V6}: not reached from the issuer: x",),
            id="which does not excuse the other address",
        ),
    ],
)
def test_what_sightings_mean(
    sightings: list[Sighting], misses: tuple[str, ...], told: tuple[str, ...]
) -> None:
    judgement = judge(FLEET, sightings)
    assert (judgement.misses, judgement.told) == (misses, told)


def test_with_no_backend_at_all_in_reach_nothing_is_ordered() -> None:
    nobody = [seen(host.name, reached=False) for host in FLEET.backends]
    assert judge(FLEET, nobody).misses == ("backend-01: no backend serves the challenge folder",)


def test_a_connection_that_is_refused_and_one_without_a_route_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(canary, "HTTP_PORT", server.getsockname()[1])
    # A link's own address without its link: no machine has a way there.
    lone = replace(fleet(), backends=(), public_addresses=("127.0.0.1", "fe80::1"))
    refused, away = canary.look(lone, NAME, tmp_path)
    assert (refused.refused, refused.no_route) == (True, False)
    assert refused.answer == f"it refuses connections on port {canary.HTTP_PORT}"
    assert (away.refused, away.no_route) == (False, True)
    assert away.answer == "this machine has no route to it"


@pytest.mark.parametrize(
    ("number", "no_route"),
    [
        (errno.ENETUNREACH, True),
        (errno.EHOSTUNREACH, True),
        (errno.EAFNOSUPPORT, True),
        (errno.EADDRNOTAVAIL, True),
        (errno.ETIMEDOUT, False),
    ],
)
def test_a_way_that_ends_in_the_network_is_no_route_to_a_public_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, *, no_route: bool
) -> None:
    def fails(*_args: object, **_named: object) -> None:
        raise OSError(number, "it ends here")

    monkeypatch.setattr(http_get, "get", fails)
    one = machine("backend-01", 11, private_address="127.0.0.1")
    lone = replace(fleet(), backends=(one,), public_addresses=("127.0.0.1",))
    backend, public = canary.look(lone, NAME, tmp_path)
    assert (backend.no_route, public.no_route) == (False, no_route)
    assert (public.reached, public.answer) == (False, "it ends here")


@pytest.mark.parametrize(
    ("banner", "answer"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "something other than HTTP ('SSH-2.0-OpenSSH_9.2p1')"),
        (b"220 \x1b[2J\t  mail\xa0\r\n", r"something other than HTTP ('220 \x1b[2J mail')"),
        (b"HTTP/1.1 abc\r\n\r\n", "something other than HTTP ('HTTP/1.1 abc')"),
    ],
)
def test_what_is_no_http_is_an_answer_and_stops_a_first_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, banner: bytes, answer: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setattr(canary, "HTTP_PORT", listening.getsockname()[1])
        thread = threading.Thread(target=say, args=(listening, banner))
        thread.start()
        lone = replace(fleet(), backends=(), public_addresses=("127.0.0.1",))
        [sighting] = canary.look(lone, NAME, tmp_path)
        thread.join()
    assert (sighting.reached, sighting.seen, sighting.answer) == (True, False, answer)
    assert f"127.0.0.1: answers {answer}" in judge(lone, [sighting]).misses


def say(listening: socket.socket, banner: bytes) -> None:
    """Answer whatever is asked with a banner."""
    connection, _address = listening.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(banner)


def test_a_backend_that_drips_its_answer_holds_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary, "SECONDS", 0.3)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setattr(canary, "HTTP_PORT", listening.getsockname()[1])
        thread = threading.Thread(target=drip, args=(listening, over))
        thread.start()
        one = machine("backend-01", 11, address="127.0.0.1", private_address="127.0.0.1")
        lone = replace(fleet(), backends=(one,), public_addresses=())
        try:
            sightings = canary.look(lone, NAME, tmp_path)
        finally:
            over.set()
            thread.join()
    assert [each.seen for each in sightings] == [False]


def drip(listening: socket.socket, over: threading.Event) -> None:
    """Answer a byte of a header at a time, for as long as anybody listens."""
    connection, _address = listening.accept()
    with connection, contextlib.suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not over.wait(0.1):
            connection.sendall(b"x")
