"""Check, from a balancer, which backends answer on their PROXY protocol port.

This source is passed to Python on the balancer; it needs only the standard library and leaves
nothing behind. nginx accepts connections from anybody but answers only balancers, by their address:
so a connection alone proves nothing, a line of HTTP does. Certificates are not verified here:
HAProxy's health check does that all the time.
"""

import json
import socket
import ssl
import sys
import threading
import time

SECONDS = 3
HEADER = b"PROXY UNKNOWN\r\n"
"""PROXY protocol version 1: a connection of the balancer's own."""

REQUEST = "GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
STATUS_LINE = b"HTTP/"


def answers(address, port, name, path):
    """Return whether a backend answers with HTTP, whatever the status."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((address, port), timeout=SECONDS) as plain:
        plain.sendall(HEADER)
        with context.wrap_socket(plain, server_hostname=name) as tls:
            tls.sendall(REQUEST.format(path=path, name=name).encode())
            got = b""
            while len(got) < len(STATUS_LINE) and (part := tls.recv(1024)):
                got += part
    return got.startswith(STATUS_LINE)


def answering(targets):
    """Return the backends that answer; a target is a backend's name and `answers`' arguments."""
    found = []

    def ask(backend, *target):
        try:
            if answers(*target):
                found.append(backend)
        except OSError as error:
            print(f"{backend}: {error}", file=sys.stderr)

    threads = [threading.Thread(target=ask, args=each, daemon=True) for each in targets]
    for each in threads:
        each.start()
    deadline = time.monotonic() + SECONDS
    for each in threads:
        each.join(max(0, deadline - time.monotonic()))
    return sorted(found)


if __name__ == "__main__":
    print("\n".join(answering(json.loads(sys.argv[1]))))
