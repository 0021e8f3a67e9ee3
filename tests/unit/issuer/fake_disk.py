"""An issuer's disk in a folder of a test's own, what it says of a lineage, and runs that are heard.

Nothing here stands in for anything of certsync's.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from certsync.issuer.compromise import Marks
from certsync.issuer.memory import Memory
from certsync.issuer.run import Run, Session
from certsync.issuer.situation import Situation, look
from certsync.issuer.store import Kept, Store, generation_files, sums
from certsync.model.certificate import parse_chain
from certsync.model.fleet import Fleet
from certsync.model.generation import Manifest
from certsync.programs import receiver
from tests.unit.fake_fleet import NAME, NOW, fleet, manifest
from tests.unit.programs.test_receiver import make_pair


def disk(folder: Path, wanted: Fleet | None = None) -> Store:
    """Return an issuer's store in a folder that is there; a fleet is rendered into it."""
    store = Store(folder / "etc", folder / "state")
    store.root.mkdir()
    store.state.mkdir()
    render(store, wanted or fleet())
    return store


def render(store: Store, wanted: Fleet) -> None:
    """Have another fleet on the disk."""
    store.fleet_file.write_text(json.dumps(wanted.to_json()))


def keep(store: Store, folder: Path, number: int, *, live: bool = True) -> bytes:
    """Keep a generation of its own, have it live (`receiver.HOME` is the store's), give its key."""
    make_pair(folder)
    key = (folder / "privkey.pem").read_bytes()
    certificate = parse_chain((folder / "cert.pem").read_text())
    files = sums(generation_files(key, certificate))
    store.keep(manifest(number, files=files), key, certificate)
    if live:
        receiver.point(NAME, f"{number:04}")
    return key


def seen(store: Store, wanted: Fleet | None = None) -> Situation:
    """Return what the disk says of a fleet's first lineage; of the rendered one if none is said."""
    found = wanted or store.fleet()
    return look(store, found, found.lineages[0])


def situation(*kept: Manifest, wanted: Fleet | None = None, **changes: Any) -> Situation:
    """Return a lineage with these generations, and no disk; the last one is live."""
    made = wanted or fleet()
    values = {
        "store": Store(Path("/nowhere"), Path("/nowhere")),
        "fleet": made,
        "lineage": made.lineages[0],
        "numbers": [each.number for each in kept],
        "kept": {each.number: Kept(each, f"{each.number:064x}", b"") for each in kept},
        "current": kept[-1].number if kept else None,
        "withdrawn": {},
        "refused": {},
        "marks": Marks(),
        **changes,
    }
    return Situation(**values)


class Heard:
    """What runs and commands of a test's tell, and what they did, in words."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.done: list[str] = []

    def run(self, found: Situation, now: datetime = NOW) -> Run:
        """Return the work on one lineage."""
        return Run(found, Memory(found.store), now, self.told.append, self.done.append)

    def session(self, store: Store, now: datetime = NOW) -> Session:
        """Return a command on the issuer."""
        return Session(store, Memory(store), now, self.told.append, self.done)
