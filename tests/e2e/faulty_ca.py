"""A proxy in front of Pebble that answers as a CA in trouble does. Run on the CA host, as root.

It passes everything on until `/run/fault` names a fault; the file's content is one of `FAULTS`.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT = 14001
PEBBLE = 14000
FAULT = Path("/run/fault")
NEW_ORDER = "/order-plz"
ORDERS = ("/my-order/", "/finalize-order/")
RETRY_AFTER = "1800"
FAULTS = ("429", "503", "json", "close", "invalid")


class Proxy(BaseHTTPRequestHandler):
    """One connection from the issuer."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Pass a GET on."""
        self.answer()

    def do_HEAD(self) -> None:
        """Pass a HEAD on."""
        self.answer()

    def do_POST(self) -> None:
        """Pass a POST on."""
        self.answer()

    def answer(self) -> None:
        """Answer with the fault that is wished for, or as Pebble does."""
        fault = FAULT.read_text().strip() if FAULT.exists() else ""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == NEW_ORDER and fault in ("429", "503"):
            self.send(
                int(fault), problem("rateLimited", "too busy"), [("Retry-After", RETRY_AFTER)]
            )
        elif self.path == NEW_ORDER and fault == "json":
            self.send(201, b'{"status": "pend')
        elif self.path == NEW_ORDER and fault == "close":
            self.close_connection = True
        else:
            self.pass_on(body, invalid=fault == "invalid" and self.path.startswith(ORDERS))

    def pass_on(self, body: bytes, *, invalid: bool) -> None:
        """Give Pebble's answer; ``invalid``: an order in it has come to nothing."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        upstream = http.client.HTTPSConnection("127.0.0.1", PEBBLE, context=context, timeout=60)
        kept = {name: value for name, value in self.headers.items() if name != "Connection"}
        upstream.request(self.command, self.path, body or None, kept)
        response = upstream.getresponse()
        content = response.read()
        if invalid and response.status < 300:
            order = json.loads(content)
            order["status"] = "invalid"
            order["error"] = json.loads(problem("unauthorized", "came to nothing"))
            content = json.dumps(order).encode()
        dropped = ("content-length", "connection", "transfer-encoding")
        headers = [each for each in response.getheaders() if each[0].lower() not in dropped]
        self.send(response.status, content, headers)

    def send(self, status: int, content: bytes, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Send one answer; of some headers, `Link` for one, there may be several."""
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if "Content-Type" not in dict(headers):
            self.send_header("Content-Type", "application/problem+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def problem(kind: str, detail: str) -> bytes:
    """Return a problem document (RFC 8555 section 6.7)."""
    return json.dumps({"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail}).encode()


def main() -> None:
    """Serve until killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/etc/pebble/https.pem", "/etc/pebble/https.key")
    server = ThreadingHTTPServer(("0.0.0.0", PORT), Proxy)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
