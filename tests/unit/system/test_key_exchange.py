"""Which key exchange a server chooses: real servers on the loopback address, and bad ones."""

from __future__ import annotations

import hashlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from certsync.model.proof import GROUPS, Verdict
from certsync.system import key_exchange, proving
from certsync.system.key_exchange import chosen, client_hello, selected
from certsync.system.proving import Expected
from tests.unit.fake_fleet import NOW, machine
from tests.unit.programs.test_receiver import NAME, make_pair

SESSION = bytes(range(32))
HYBRID = 0x11EC


@contextmanager
def serving(answer: Callable[[socket.socket], object], connections: int = 1) -> Iterator[int]:
    """Answer so many connections on the loopback address; give the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def serve() -> None:
            for _ in range(connections):
                client, _ = server.accept()
                client.settimeout(10)
                with client, suppress(OSError):
                    answer(client)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def context(folder: Path, curve: str = "") -> ssl.SSLContext:
    make_pair(folder)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(folder / "cert.pem", folder / "privkey.pem")
    if curve:
        made.set_ecdh_curve(curve)
    return made


def shaking_hands(made: ssl.SSLContext) -> Callable[[socket.socket], object]:
    def shake(client: socket.socket) -> None:
        with made.wrap_socket(client, server_side=True):
            pass

    return shake


# Real servers


@pytest.mark.parametrize(
    ("curve", "group"),
    [("", "x25519"), ("X25519", "x25519"), ("prime256v1", "secp256r1"), ("secp384r1", "secp384r1")],
)
def test_a_server_names_the_group_it_chooses(tmp_path: Path, curve: str, group: str) -> None:
    made = context(tmp_path, curve)
    expected = {group} if curve else {group, GROUPS[HYBRID]}  # by its OpenSSL's version
    with serving(shaking_hands(made)) as port:
        assert chosen("127.0.0.1", port, NAME) in expected


def test_a_server_learns_the_name_that_is_asked_for(tmp_path: Path) -> None:
    made, names = context(tmp_path), list[str]()
    made.sni_callback = lambda _tls, name, _context: names.append(name)
    with serving(shaking_hands(made)) as port:
        chosen("127.0.0.1", port, NAME)
    assert names == [NAME]


@pytest.mark.parametrize("weakness", ["an old version", "a group that we do not offer"])
def test_a_server_that_chooses_none_says_nothing(tmp_path: Path, weakness: str) -> None:
    made = context(tmp_path, "secp521r1" if "group" in weakness else "")
    if "version" in weakness:
        made.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(shaking_hands(made)) as port:
        assert chosen("127.0.0.1", port, NAME) == ""


def test_people_who_look_see_it_in_the_proof_and_an_hourly_run_makes_no_connection_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = context(tmp_path, "prime256v1")
    host, wanted = machine("b", 1, private_address="127.0.0.1"), Expected(None, (), (), "")
    for prove, connections, group in (
        (proving.prove_with_key_exchange, 3, "secp256r1"),
        (proving.prove, 2, ""),
    ):
        with serving(shaking_hands(made), connections) as port:
            monkeypatch.setattr(proving, "TLS_PORT", port)
            (proof,) = prove([host], NAME, wanted, NOW)
            assert (proof.verdict, proof.key_exchange) == (Verdict.WRONG, group)


# No server, or a bad one


def test_where_nobody_listens_nothing_is_said() -> None:
    assert chosen("127.0.0.1", 1, NAME) == ""


def test_a_name_that_no_hello_can_have_is_not_asked_for() -> None:
    with serving(lambda client: client.recv(1)) as port:
        assert chosen("127.0.0.1", port, "b\u00fccher.example.com") == ""


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x16\x03\x03", id="half a header"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="no TLS"),
        pytest.param(b"\x16\x03\x03\xff\xff" + bytes(70000), id="too much"),
    ],
)
def test_an_answer_that_is_none_says_nothing(answer: bytes) -> None:
    def say(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(answer)

    with serving(say) as port:
        assert chosen("127.0.0.1", port, NAME) == ""


def test_a_server_that_never_ends_its_answer_is_given_up_in_time() -> None:
    done = threading.Event()

    def dribble(client: socket.socket) -> None:
        while not done.wait(0.05):
            client.sendall(b"\x16")

    with serving(dribble) as port:
        assert chosen("127.0.0.1", port, NAME, seconds=0.3) == ""
        done.set()


# The messages


def retry(
    group: int = HYBRID, *, random: bytes = key_exchange.RETRY, session: bytes = SESSION,
    suite: int = 0x1301, version: bytes = b"\x03\x04", more: bytes = b"",
) -> bytes:  # fmt: skip
    """Return a HelloRetryRequest, as a record."""
    extensions = b"\0\x2b\0\x02" + version + b"\0\x33\0\x02" + struct.pack("!H", group) + more
    body = b"\x03\x03" + random + bytes([len(session)]) + session
    body += struct.pack("!HBH", suite, 0, len(extensions)) + extensions
    message = b"\x02" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x03" + struct.pack("!H", len(message)) + message


@pytest.mark.parametrize(("group", "name"), list(GROUPS.items()))
def test_a_retry_request_names_a_group(group: int, name: str) -> None:
    assert selected(retry(group), SESSION) == name
    assert selected(retry(group, more=b"\0\x2c\0\x03\0\x01a"), SESSION) == name, "with a cookie"


@pytest.mark.parametrize(
    "record",
    [
        retry(0x001E),
        retry(random=bytes(32)),
        retry(session=bytes(32)),
        retry(session=b""),
        retry(suite=0x1304),
        retry(version=b"\x03\x03"),
        retry(more=b"\0\x33\0\x02\0\x1d"),
        retry(more=b"\0\x10\0\0"),
        retry(more=b"\0\x2c\0\x09a"),
        retry() + b"x",
        b"\x15" + retry()[1:],
        retry().replace(b"\0\x33\0\x02", b"\0\x33\0\x01"),
    ],
    ids=[
        "not offered", "a plain ServerHello", "another session", "no session", "another cipher",
        "TLS 1.2", "two groups", "unknown extension", "cut off", "left over", "an alert", "short",
    ],
)  # fmt: skip
def test_anything_else_names_none(record: bytes) -> None:
    assert selected(record, SESSION) == ""


def test_no_prefix_and_no_flipped_byte_of_an_answer_is_an_error() -> None:
    whole = retry()
    for at in range(len(whole)):
        assert selected(whole[:at], SESSION) == ""
        flipped = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        assert selected(flipped, SESSION) in ("", *GROUPS.values())


def test_what_makes_an_answer_a_retry_request_is_the_hash_of_that_word() -> None:
    assert hashlib.sha256(b"HelloRetryRequest").digest() == key_exchange.RETRY


def test_a_hello_offers_the_hybrid_group_first_and_a_key_share_for_none() -> None:
    record = client_hello(NAME, bytes(32), SESSION)
    assert b"\0\x0a\0\x0a\0\x08\x11\xec\0\x1d\0\x17\0\x18" in record
    assert record.endswith(b"\0\x33\0\x02\0\0")
    assert int.from_bytes(record[3:5], "big") == len(record) - 5
    assert NAME.encode() in record
