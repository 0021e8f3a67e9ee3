"""A balancer's question: which backends answer it on their port for the PROXY protocol?

Python on the balancer is given this text, needs the standard library alone, and leaves nothing
there. nginx takes connections from anybody, and answers balancers only, by the address that it sees
them come from: so a connection alone means nothing, and one line of HTTP says it all. Who answers
with a good certificate is not asked here: HAProxy's own check does that, all the time.
"""

import json
import socket
import ssl
import sys
import threading
import time

SECONDS = 3
HEADER = b"PROXY UNKNOWN\r\n"
"""PROXY protocol, version 1: a connection that is the balancer's own."""

REQUEST = "GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
STATUS_LINE = b"HTTP/"


def answers(address, port, name, path):
    """Return whether a backend answers with HTTP, whatever it says."""
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
    """Return the backends that answer; a target is a backend's name and what `answers` takes."""
    heard = []

    def ask(backend, *target):
        try:
            if answers(*target):
                heard.append(backend)
        except OSError as error:
            print(f"{backend}: {error}", file=sys.stderr)

    threads = [threading.Thread(target=ask, args=each, daemon=True) for each in targets]
    for each in threads:
        each.start()
    deadline = time.monotonic() + SECONDS
    for each in threads:
        each.join(max(0, deadline - time.monotonic()))
    return sorted(heard)


if __name__ == "__main__":
    print("\n".join(answering(json.loads(sys.argv[1]))))
