"""Ask a TLS server which key exchange it would make with a client that offers several.

Python's standard library does not tell, so half a handshake is made by hand: a ClientHello that
names groups but has a key share for none. A server of TLS 1.3 answers it with a HelloRetryRequest,
which names the group it wants (RFC 8446 sections 4.1.4 and 4.2.8). Only `chosen` does I/O.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence

from certsync.model.fleet import Machine
from certsync.model.proof import GROUPS
from certsync.system import parallel
from certsync.system.deadline import Deadline

SECONDS = 5.0
"""How long an answer may take, from the connection to its last byte."""

LARGEST = 1024
"""The largest answer that is read, in bytes; a HelloRetryRequest has about a hundred."""

CIPHER_SUITES = (0x1301, 0x1302, 0x1303)
"""All that TLS 1.3 has for the web (RFC 8446 appendix B.4)."""

SIGNATURES = (0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0807, 0x0401, 0x0501, 0x0601)
"""Any that a certificate for the web may have (RFC 8446 section 4.2.3)."""

SERVER_NAME, SUPPORTED_GROUPS, SIGNATURE_ALGORITHMS = 0, 10, 13
SUPPORTED_VERSIONS, COOKIE, KEY_SHARE = 43, 44, 51
"""Extensions (RFC 8446 section 4.2)."""

TLS_1_2, TLS_1_3 = 0x0303, 0x0304
HANDSHAKE, CLIENT_HELLO, SERVER_HELLO = 22, 1, 2
RETRY = bytes.fromhex("CF21AD74E59A6111BE1D8C021E65B891C2A211167ABB8C5E079E09E2C8A8339C")
"""The random value that makes a ServerHello a HelloRetryRequest (RFC 8446 section 4.1.3)."""


def of_each(hosts: Sequence[Machine], port: int, name: str) -> list[str]:
    """Return each host's group for a name at its private address, many at once; see `chosen`."""
    return parallel.each(lambda machine: chosen(machine.private_address, port, name), hosts)


def chosen(address: str, port: int, server_name: str, seconds: float = SECONDS) -> str:
    """Return the group that a server chooses of `GROUPS`, by name; empty: it does not say.

    That may have any reason, such as TLS 1.2 only, or no answer; a proof has the ones that matter.
    """
    deadline, session = Deadline(seconds), os.urandom(32)
    try:
        with socket.create_connection((address, port), timeout=seconds) as plain:
            plain.settimeout(deadline.left())
            plain.sendall(client_hello(server_name, os.urandom(32), session))
            header = _read(plain, 5, deadline)
            length = int.from_bytes(header[3:], "big")
            if length > LARGEST:
                return ""
            return selected(header + _read(plain, length, deadline), session)
    except (OSError, UnicodeError):
        return ""


def _read(plain: socket.socket, number: int, deadline: Deadline) -> bytes:
    found = b""
    while len(found) < number:
        plain.settimeout(deadline.left())
        more = plain.recv(number - len(found))
        if not more:
            raise ConnectionResetError
        found += more
    return found


def client_hello(server_name: str, random: bytes, session: bytes) -> bytes:
    """Return the record to send, for a server name in ASCII; 32 bytes of random and session each.

    Raises:
        UnicodeError: the name is not in ASCII.
    """
    name = server_name.encode("ascii")
    extensions = b"".join(
        (
            _extension(SERVER_NAME, _long(b"\0" + _long(name))),
            _extension(SUPPORTED_VERSIONS, _short(_numbers((TLS_1_3,)))),
            _extension(SUPPORTED_GROUPS, _long(_numbers(tuple(GROUPS)))),
            _extension(SIGNATURE_ALGORITHMS, _long(_numbers(SIGNATURES))),
            _extension(KEY_SHARE, _long(b"")),
        )
    )
    body = b"".join(
        (
            _numbers((TLS_1_2,)), random, _short(session), _long(_numbers(CIPHER_SUITES)),
            _short(b"\0"), _long(extensions),
        )
    )  # fmt: skip
    message = bytes([CLIENT_HELLO]) + len(body).to_bytes(3, "big") + body
    # A first record has the version of TLS 1.0 for old middleboxes (section 5.1).
    return struct.pack("!BHH", HANDSHAKE, 0x0301, len(message)) + message


def _numbers(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"!{len(numbers)}H", *numbers)


def _short(content: bytes) -> bytes:
    return len(content).to_bytes(1, "big") + content


def _long(content: bytes) -> bytes:
    return len(content).to_bytes(2, "big") + content


def _extension(kind: int, content: bytes) -> bytes:
    return _numbers((kind,)) + _long(content)


def selected(record: bytes, session: bytes) -> str:
    """Return the group named by a record that is a whole HelloRetryRequest; empty: it is none.

    ``session`` is the session identifier that the ClientHello had.
    """
    try:
        return GROUPS.get(_group(record, session), "")
    except (ValueError, struct.error):
        return ""


def _group(record: bytes, session: bytes) -> int:
    """Parse a HelloRetryRequest strictly: nothing is missing, doubled, or left over."""
    kind, version, length = struct.unpack_from("!BHH", record)
    message = record[5:]
    if kind != HANDSHAKE or version not in (0x0301, TLS_1_2) or length != len(message):
        raise ValueError("not a handshake record")
    body = message[4:]
    if message[:1] != bytes([SERVER_HELLO]) or int.from_bytes(message[1:4], "big") != len(body):
        raise ValueError("not a whole ServerHello")
    head = _numbers((TLS_1_2,)) + RETRY + _short(session)
    if not body.startswith(head):
        raise ValueError("not a HelloRetryRequest for this session")
    suite, compression, total = struct.unpack_from("!HBH", body, len(head))
    rest = body[len(head) + 5 :]
    if suite not in CIPHER_SUITES or compression != 0 or total != len(rest):
        raise ValueError("an answer that was not offered")
    extensions = _extensions(rest)
    if extensions.pop(SUPPORTED_VERSIONS, b"") != _numbers((TLS_1_3,)):
        raise ValueError("not TLS 1.3")
    (group,) = struct.unpack("!H", extensions.pop(KEY_SHARE, b""))
    extensions.pop(COOKIE, None)
    if extensions:
        raise ValueError("an extension that a HelloRetryRequest does not have")
    return int(group)


def _extensions(rest: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while rest:
        kind, length = struct.unpack_from("!HH", rest)
        if kind in found or len(rest) < 4 + length:
            raise ValueError("an extension that is doubled or cut off")
        found[kind], rest = rest[4 : 4 + length], rest[4 + length :]
    return found
