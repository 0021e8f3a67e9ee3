"""`certsync rehearse-here`, on the issuer: order and check a certificate without keeping it.

Files are kept in memory below /run and removed afterwards; what a killed rehearsal left behind is
removed when the next one starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from certsync.issuer import canary, webroot
from certsync.issuer.canary import Sighting
from certsync.issuer.replicas import outgoing, receivers
from certsync.issuer.replicas.answer import Answer
from certsync.issuer.replicas.backend import OLDER, Backend
from certsync.issuer.situation import Situation, look, look_at_all
from certsync.issuer.store import Store, generation_files
from certsync.model.errors import CertsyncError, HostError
from certsync.model.fleet import Fleet, Lineage
from certsync.model.paths import REHEARSAL
from certsync.model.rehearsal import NUMBER, Finding
from certsync.programs import receiver
from certsync.system.files import remove_folder

Tell = Callable[[str], None]

RECEIVED = "received with rsync, then checked by its receiver and by nginx"
CHECKED = "checked by nginx"


@dataclass(frozen=True)
class Scratch(Store):
    """A temporary store with the real one's webroot, CA bundle and binding key."""

    real: Store = field(default_factory=Store)

    @property
    def webroot(self) -> Path:
        """The folder from which nginx serves challenge files: the real one."""
        return self.real.webroot

    @property
    def directory_bundle(self) -> Path:
        """What verifies the CA's own HTTPS: the real one."""
        return self.real.directory_bundle

    @property
    def binding_key(self) -> Path:
        """The secret of an external account binding: the real one."""
        return self.real.binding_key


def rehearse_here(store: Store, directory: str, now: datetime, tell: Tell) -> list[Finding]:
    """Return what succeeded and what failed, from the canary to nginx on every backend.

    Raises:
        StoreError: this host is not an issuer.
    """
    looks = look_at_all(store)
    if len(looks) == 1:
        return _of_lineage(looks[0], directory, now, tell)
    return [
        replace(finding, what=f"{finding.what}, of {one.name}")
        for one in looks
        for finding in _of_lineage(one, directory, now, tell)
    ]


def _of_lineage(seen: Situation, directory: str, now: datetime, tell: Tell) -> list[Finding]:
    fleet, issuer = seen.fleet, seen.fleet.issuer_name
    with _scratch(seen.store) as scratch:
        tell("fetching a test challenge file from every backend and public address")
        sightings = canary.look(fleet, seen.name, seen.store.webroot)
        findings = of_sightings(sightings)
        ordered = f"an order at {directory}"
        if misses := canary.judge(fleet, sightings).misses:
            why = f"skipped, a challenge would not reach the issuer: {'; '.join(misses)}"
            return [*findings, Finding(issuer, ordered, why)]
        try:
            files = _ordered(_at(fleet, directory), seen.lineage, scratch, now, tell)
        except CertsyncError as error:
            return [*findings, Finding(issuer, ordered, error.message)]
        findings += [Finding(issuer, ordered)]
        tell("checking it with nginx here and on every replica")
        return [*findings, _checked_here(seen, scratch, files, now), *_carried(seen, files)]


@contextmanager
def _scratch(store: Store) -> Iterator[Scratch]:
    _clear(store)
    # Private to root before anything is put into it.
    REHEARSAL.mkdir(mode=0o700)
    try:
        yield Scratch(REHEARSAL / "etc", REHEARSAL / "var", real=store)
    finally:
        _clear(store)


def _clear(store: Store) -> None:
    remove_folder(REHEARSAL)
    outgoing.remove_outbox()
    webroot.clear(store.webroot)


def _at(fleet: Fleet, directory: str) -> Fleet:
    """Return the fleet with the test CA; only the fleet's own CA knows its account binding."""
    authority = fleet.authority
    key_id = authority.eab_key_id if directory == authority.directory else ""
    return replace(fleet, authority=replace(authority, directory=directory, eab_key_id=key_id))


def _ordered(
    fleet: Fleet, lineage: Lineage, scratch: Store, now: datetime, tell: Tell
) -> dict[str, bytes]:
    """Order a certificate with a new account, and return a generation's five files."""
    from certsync.issuer.ca import issuance, ordering

    seen = look(scratch, fleet, lineage)
    issued = issuance.obtain(seen, now, tell, issuance.Request())
    files = generation_files(issued.key, issued.certificate)
    manifest = ordering.manifest_of(seen, NUMBER, issued)
    return {**files, receiver.MANIFEST: manifest.to_json()}


def _checked_here(
    seen: Situation, scratch: Store, files: dict[str, bytes], now: datetime
) -> Finding:
    issuer = seen.fleet.issuer_name
    folder = scratch.root / "generation"
    folder.mkdir(mode=0o700)
    for name, content in files.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(content)
    try:
        receiver.verify(folder, seen.name, str(NUMBER), now.timestamp())
        receiver.try_server(folder, seen.name)
    except receiver.Refused as refused:
        return Finding(issuer, CHECKED, str(refused))
    return Finding(issuer, CHECKED)


def _carried(seen: Situation, files: dict[str, bytes]) -> list[Finding]:
    with (
        outgoing.outbox(files, str(NUMBER)) as outbox,
        receivers.connected(seen.fleet, seen.holders) as backends,
    ):
        replicas = [each for each in backends if not each.local]
        found = receivers.each(lambda one: _tried(one, seen.name, outbox), replicas)
    return [Finding(backend.name, RECEIVED, _refusal(each)) for backend, each in found]


def _tried(backend: Backend, lineage: str, outbox: Path) -> Answer:
    # First, because the push uses the conversation's connection.
    backend.ask("current", lineage, 0)
    backend.push(outbox)
    return backend.ask("try", lineage, NUMBER)


def _refusal(answer: Answer | HostError) -> str:
    if isinstance(answer, HostError):
        return answer.why
    if answer.is_older:
        return f"{OLDER}: deploy again"
    return "" if answer.ok else answer.why


def of_sightings(sightings: Iterable[Sighting]) -> list[Finding]:
    """Return the canary's result for each backend and each public address.

    A public address that only the issuer cannot reach is not a failure.
    """
    seen = list(sightings)
    unknown = canary.hidden(seen)
    return [
        Finding(each.where, _canary(each), "" if each in unknown else _why(each)) for each in seen
    ]


def _canary(sighting: Sighting) -> str:
    if not sighting.public:
        return "a challenge file, fetched from its own address"
    family = "IPv6" if ":" in sighting.address else "IPv4"
    return f"a challenge file, fetched through the balancer over {family}"


def _why(sighting: Sighting) -> str:
    if sighting.seen:
        return ""
    return f"answers {sighting.answer}" if sighting.reached else f"not reached: {sighting.answer}"
