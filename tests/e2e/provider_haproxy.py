"""HAProxy on the lab's balancer, which does what a provider's balancer would: `Listener`s."""

from __future__ import annotations

import csv
import socket
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from lab import Machine
from lab.network import namespace
from tests.doubles.listener import Check, Listener, Target
from tests.e2e.inside import inside

ADMIN_PORT = 9000
SECONDS = 20.0
PORT, BESIDE = "port-", "-beside"
Place = tuple[int, str]
"""A listener's port and a target's identifier, which `Listener.beside` has no second time."""

Health = Mapping[Place, str]

HEAD = """\
global
    # Tells from outside which configuration is in use.
    description {number}
    stats socket /run/haproxy/admin.sock mode 660 level admin expose-fd listeners
    stats socket ipv4@{address}:{port} level admin
    log /dev/log local0
    user haproxy
    group haproxy
defaults
    log global
    # No redispatch: whether a provider asks another target when one refuses is not documented.
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
    timeout check 3s
"""


def text(
    listeners: Sequence[Listener], address: str, number: int, down: Collection[Place] = ()
) -> str:
    """Return haproxy.cfg. ``number``: which of its configurations it is.

    ``down`` are targets that begin with nothing: see `Haproxy.become`.
    """
    head = HEAD.format(number=number, address=address, port=ADMIN_PORT)
    return head + "".join(f"{line}\n" for each in listeners for line in _lines(each, down))


def _lines(of: Listener, down: Collection[Place]) -> Iterator[str]:
    mode = "http" if of.http else "tcp"
    name = f"{PORT}{of.port}{BESIDE if of.beside else ''}"
    if not of.beside:
        yield f"frontend {name}"
        yield f"    bind :::{of.port} v4v6"
        yield f"    mode {mode}"
        yield f"    option {mode}log"
        if of.http:
            yield "    http-request set-header X-Forwarded-For %[src]"
        yield f"    default_backend {name}"
    yield f"backend {name}"
    yield f"    mode {mode}"
    yield f"    balance {'source' if of.sticky else 'roundrobin'}"
    if of.check and of.check.protocol != "tcp":
        yield "    option httpchk"
        yield f"    http-check send meth GET uri {of.check.path} ver HTTP/1.1 hdr Host balancer"
    for each in of.targets:
        takes = each.takes and (of.port, each.id) not in down
        yield f"    server {each.id} {_server(of, each, takes=takes)}"


def _server(of: Listener, target: Target, *, takes: bool) -> str:
    address = f"[{target.address}]" if ":" in target.address else target.address
    words = [f"{address}:{target.port}", "" if takes else "weight 0"]
    words.append({"": "", "v1": "send-proxy", "v2": "send-proxy-v2"}[of.proxy])
    words += _check(of.check, proxied=bool(of.proxy)) if of.check else []
    return " ".join(filter(None, words))


def _check(check: Check, *, proxied: bool) -> Iterator[str]:
    yield f"check inter {check.seconds}s fall {check.bad} rise {check.good}"
    if check.port:
        yield f"port {check.port}"
    if check.protocol == "https":
        yield "check-ssl verify none"
    if proxied:
        yield "check-send-proxy" if check.proxy else "no-check-send-proxy"


def going_down(listeners: Sequence[Listener], before: Health) -> list[Place]:
    """Return the targets that are down after a reload, which by itself makes all of them up."""
    # A target that is new on a port may be known from another one.
    known = {target: status for (_, target), status in before.items()}
    return [
        (each.port, target.id)
        for each in listeners
        if each.check
        for target in each.targets
        for new in ["DOWN" if each.check.down_at_first else "UP"]
        if before.get((each.port, target.id), known.get(target.id, new)) == "DOWN"
    ]


def _port(name: str) -> int:
    return int(name.removeprefix(PORT).removesuffix(BESIDE))


class Haproxy:
    """HAProxy on a host of the lab."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.number = 0
        self.does: Sequence[Listener] | None = None
        """What it does now; None: nothing was said yet."""

    def become(self, listeners: Sequence[Listener]) -> None:
        """Do this from now on: by a reload, which breaks no connection."""
        if listeners == self.does:
            return
        before = {place: status for place, (status, _) in self._all().items()}
        self.number += 1
        down = going_down(listeners, before)
        made = text(listeners, self.machine.address, self.number, down)
        Path(self.machine.root, "etc/haproxy/haproxy.cfg").write_text(made)
        self.machine.sh("systemctl reload-or-restart haproxy")
        end = time.monotonic() + SECONDS
        while f"\ndescription: {self.number}\n" not in self._asked("show info"):
            assert time.monotonic() < end, self.machine.sh("journalctl -u haproxy -n 20")
            time.sleep(0.02)
        self._begin_down(listeners, down)
        self.does = listeners

    def _begin_down(self, listeners: Sequence[Listener], down: Collection[Place]) -> None:
        """Have targets without weight get their weight once their checks were good."""
        drained = {(of.port, each.id) for of in listeners for each in of.targets if not each.takes}
        pools = {
            (of.port, each.id): f"{PORT}{of.port}{BESIDE if of.beside else ''}"
            for of in listeners
            for each in of.targets
        }
        for port, target in down:
            server = f"{pools[port, target]}/{target}"
            weight = "" if (port, target) in drained else f"; set weight {server} 1"
            said = self._asked(f"set server {server} health down{weight}")
            assert not said.strip(), said

    def health(self) -> Health:
        """Return what it thinks of targets, by their listener's port and their identifiers.

        `UP`, `DOWN`, `no` (there is no check); one that was not checked yet is left out.
        """
        return {place: status for place, (status, is_new) in self._all().items() if not is_new}

    def _all(self) -> dict[Place, tuple[str, bool]]:
        """Return what it thinks of targets, and whether it has not checked them yet."""
        rows = csv.DictReader(self._asked("show stat").removeprefix("# ").splitlines())
        return {
            (_port(row["pxname"]), row["svname"]): (
                row["status"].split()[0],
                row["check_status"] == "INI",
            )
            for row in rows
            if row["svname"] not in {"FRONTEND", "BACKEND"}
        }

    def _asked(self, command: str) -> str:
        """Return what it answers to a command; nothing: it does not listen."""
        place = (self.machine.address, ADMIN_PORT)
        operator = namespace(self.machine.lab, "operator")
        try:
            with inside(operator, lambda: socket.create_connection(place, 5)) as asked:
                asked.sendall(f"{command}\n".encode())
                return b"".join(iter(lambda: asked.recv(65536), b"")).decode()
        except ConnectionError:
            return ""
