"""The relay in a long cable: delays each frame, or drops it.

A lab's kernel may lack netem. The relay ends when its standard input does, and gives the host its
short cable back.
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
"""Bytes that may be in transit in one direction; more are dropped, as by a router."""

BURST = 256
"""Frames read at once, so that the other direction does not wait."""

ETH_P_ALL, SOL_PACKET, PACKET_IGNORE_OUTGOING = 0x0003, 263, 23
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
CLONE_NEWNET = 0x40000000
SIOCETHTOOL = 0x8946
OFFLOADS = {"scatter-gather": 0x19, "transmit checksums": 0x17, "tso": 0x1F, "gso": 0x24}
"""ethtool's numbers to set them, in the order in which they can be enabled. With any of them, a
frame between two veths may be 64 KiB long, or lack its checksum."""


class Sink(Protocol):
    """Where frames are sent."""

    def send(self, frame: bytes) -> None:
        """Send a frame; it may get lost."""


@dataclass
class Way:
    """One direction of the cable, and the frames in transit in it."""

    sink: Sink
    seconds: float
    loss: float
    chance: random.Random
    under_way: deque[tuple[float, bytes]] = field(default_factory=deque)
    size: int = 0

    def take(self, frame: bytes, now: float) -> None:
        """Accept a frame that arrives now, or drop it."""
        if self.chance.random() < self.loss or self.size + len(frame) > ROOM:
            return
        self.under_way.append((now + self.seconds, frame))
        self.size += len(frame)

    def deliver(self, now: float) -> None:
        """Send the frames whose delay is over."""
        while self.under_way and self.under_way[0][0] <= now:
            _, frame = self.under_way.popleft()
            self.size -= len(frame)
            self.sink.send(frame)

    @property
    def next(self) -> float:
        """When the next frame is due; infinity: none is in transit."""
        return self.under_way[0][0] if self.under_way else math.inf


class Port:
    """The end of a link, for raw frames."""

    def __init__(self, device: str) -> None:
        self.device = device
        # Protocol 0 until it is bound, or it would receive from every link.
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        for option in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
            self.socket.setsockopt(socket.SOL_SOCKET, option, ROOM)
        self.socket.bind((device, ETH_P_ALL))
        self.socket.setblocking(False)

    def frames(self) -> Iterator[bytes]:
        """Yield the received frames; none while the cable is unplugged.

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
        """Send a frame; it is lost if the link is down or full."""
        with suppress(OSError):
            self.socket.send(frame)


def carry(ways: dict[Port, Way], until: int) -> None:
    """Carry frames until a file descriptor is readable or closed.

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
    """Enter a network namespace, for all that this process opens from now on.

    Raises:
        OSError: it does not exist.
    """
    with (Path("/run/netns") / namespace).open() as file:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")


def offload(device: str, *, wanted: bool) -> None:
    """Turn a link's offloads off, so that its frames are complete and of normal size; or on."""
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
        # The lab may go down meanwhile, with its links.
        with suppress(OSError):
            carry({outer: Way(inner, *fate), inner: Way(outer, *fate)}, sys.stdin.fileno())
    finally:
        network.shorten(cable.lab, cable.number)
        with suppress(OSError):
            enter(host)
            offload(network.HOST_LINK, wanted=True)


if __name__ == "__main__":
    be(Cable(**json.loads(sys.argv[1])))
