"""Be the middle of a long cable: take each frame off it, and put it on again later, or never.

The kernels a lab runs on need not have netem. It ends when its standard input does, and leaves the
host with the short cable that it had.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import math
import random
import select
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lab import network
from lab.cable import Cable

ROOM = 16 * 2**20
"""Bytes that may be under way in one direction; what comes then is lost, as at a router."""

BURST = 256
"""Frames taken in one go, so that the other direction is not kept waiting."""

ETH_P_ALL, SOL_PACKET, PACKET_IGNORE_OUTGOING = 0x0003, 263, 23
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
CLONE_NEWNET = 0x40000000
SIOCETHTOOL = 0x8946
OFFLOADS = {"scatter-gather": 0x19, "transmit checksums": 0x17, "tso": 0x1F, "gso": 0x24}
"""ethtool's numbers for setting them, in the order in which they can be switched on. With any of
them a frame between two veths may be 64 KiB long, or have a checksum still to be made."""


class Sink(Protocol):
    """What frames go into."""

    def send(self, frame: bytes) -> None:
        """Put a frame on its way; it may get lost."""


@dataclass
class Way:
    """One direction of the cable, and the frames that are under way in it."""

    sink: Sink
    seconds: float
    loss: float
    chance: random.Random
    under_way: deque[tuple[float, bytes]] = field(default_factory=deque)
    size: int = 0

    def take(self, frame: bytes, now: float) -> None:
        """Take a frame that comes in at this moment, or lose it."""
        if self.chance.random() < self.loss or self.size + len(frame) > ROOM:
            return
        self.under_way.append((now + self.seconds, frame))
        self.size += len(frame)

    def deliver(self, now: float) -> None:
        """Let out the frames that have been under way for long enough."""
        while self.under_way and self.under_way[0][0] <= now:
            _, frame = self.under_way.popleft()
            self.size -= len(frame)
            self.sink.send(frame)

    @property
    def next(self) -> float:
        """The moment at which the next frame is to be let out; infinity: none is under way."""
        return self.under_way[0][0] if self.under_way else math.inf


class Port:
    """A link's end, as raw frames."""

    def __init__(self, device: str) -> None:
        self.device = device
        # Of no protocol before it is bound: it would take what comes in on any link.
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        for option in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
            self.socket.setsockopt(socket.SOL_SOCKET, option, ROOM)
        self.socket.bind((device, ETH_P_ALL))
        self.socket.setblocking(False)

    def frames(self) -> Iterator[bytes]:
        """Yield what has come in; nothing while the cable is pulled.

        Raises:
            OSError: the link is gone.
        """
        for _ in range(BURST):
            try:
                yield self.socket.recv(65536)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENETDOWN:
                    raise
                socket.if_nametoindex(self.device)
                return

    def send(self, frame: bytes) -> None:
        """Put a frame on the link; where it is down or full, it is lost."""
        with suppress(OSError):
            self.socket.send(frame)


def carry(ways: dict[Port, Way], until: int) -> None:
    """Carry frames until a file descriptor has something to read, or its end.

    Raises:
        OSError: a link is gone.
    """
    poll = select.poll()
    poll.register(until, select.POLLIN)
    ports = {port.socket.fileno(): port for port in ways}
    for number in ports:
        poll.register(number, select.POLLIN)
    while True:
        moment = min(way.next for way in ways.values())
        wait = None if moment == math.inf else max(0, math.ceil(1000 * (moment - time.monotonic())))
        for number, _ in poll.poll(wait):
            if number == until:
                return
            port = ports[number]
            for frame in port.frames():
                ways[port].take(frame, time.monotonic())
        for way in ways.values():
            way.deliver(time.monotonic())


def enter(namespace: str) -> None:
    """Let what this process opens from now on be of a network namespace.

    Raises:
        OSError: there is none of this name.
    """
    with (Path("/run/netns") / namespace).open() as file:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")


def offload(device: str, *, wanted: bool) -> None:
    """Have frames leave a link whole and of its own size, or as the kernel likes it best."""
    order = list(OFFLOADS.values()) if wanted else list(OFFLOADS.values())[::-1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for number in order:
            value = ctypes.create_string_buffer(struct.pack("II", number, int(wanted)))
            request = struct.pack("16sP8x", device.encode(), ctypes.addressof(value))
            fcntl.ioctl(control, SIOCETHTOOL, request)


def be(cable: Cable) -> None:
    """Be the long cable to a host until standard input ends."""
    host, operator = (network.namespace(cable.lab, each) for each in (cable.host, "operator"))
    near, far, end = network.lengthen(cable.lab, cable.number)
    try:
        enter(host)
        offload(network.HOST_LINK, wanted=False)
        enter(operator)
        offload(near, wanted=False)
        outer, inner = Port(far), Port(end)
        network.join_cable(cable.lab, cable.number, long=True)
        print("ready", flush=True)
        fate = cable.delay_ms / 2000, cable.loss, random.Random(cable.seed)
        # The lab may go down meanwhile, and its links with it.
        with suppress(OSError):
            carry({outer: Way(inner, *fate), inner: Way(outer, *fate)}, sys.stdin.fileno())
    finally:
        network.shorten(cable.lab, cable.number)
        with suppress(OSError):
            enter(host)
            offload(network.HOST_LINK, wanted=True)


if __name__ == "__main__":
    be(Cable(**json.loads(sys.argv[1])))
