"""What a long cable of the lab does with frames."""

from __future__ import annotations

import math
import random

from lab.relay import ROOM, Way


class Kept:
    """A link that keeps what is sent on it."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send(self, frame: bytes) -> None:
        self.frames.append(frame)


def way(*, seconds: float = 0, loss: float = 0, seed: int = 0) -> tuple[Way, Kept]:
    kept = Kept()
    return Way(kept, seconds, loss, random.Random(seed)), kept


def test_a_frame_is_let_out_no_sooner_than_its_time() -> None:
    cable, kept = way(seconds=0.05)
    cable.take(b"one", now=10)
    cable.take(b"two", now=10.02)
    cable.deliver(now=10.04)
    assert kept.frames == []
    cable.deliver(now=cable.next)
    assert kept.frames == [b"one"]
    cable.deliver(now=11)
    assert kept.frames == [b"one", b"two"]
    assert cable.next == math.inf


def test_the_same_seed_loses_the_same_frames() -> None:
    def arrived(seed: int) -> list[bytes]:
        cable, kept = way(loss=0.3, seed=seed)
        for number in range(1000):
            cable.take(b"%d" % number, now=0)
        cable.deliver(now=0)
        return kept.frames

    assert arrived(1) == arrived(1) != arrived(2)
    assert 600 < len(arrived(1)) < 800


def test_what_has_no_room_on_the_cable_is_lost() -> None:
    cable, kept = way(seconds=1)
    frame = bytes(ROOM // 4)
    for _ in range(6):
        cable.take(frame, now=0)
    cable.deliver(now=1)
    assert len(kept.frames) == 4
    cable.take(frame, now=2)
    cable.deliver(now=3)
    assert len(kept.frames) == 5
