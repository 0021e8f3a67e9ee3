"""The simulated world: every door through which the engine reaches out leads in here."""

from __future__ import annotations

import contextlib
import json
import os
import random
import syslog
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from certsync.issuer import canary, identity, steps
from certsync.issuer.ca import ari, crl, issuance, registration, right_time
from certsync.issuer.canary import Sighting
from certsync.issuer.replicas import outgoing, receivers
from certsync.issuer.steps import Step
from certsync.issuer.store import Kept, Store
from certsync.model import certificate
from certsync.model.certificate import fingerprint
from certsync.model.epoch import Epoch
from certsync.model.errors import CaSilentError
from certsync.model.fleet import Authority, Fleet, Lineage, Machine
from certsync.model.identity import Identity, marker
from certsync.model.proof import Served, Unreachable
from certsync.programs import receiver
from certsync.system import dns, files, parallel, proving
from certsync.system.patience import Patience
from tests.simulation.ca import Ca, Order
from tests.simulation.certificates import Signer
from tests.simulation.conversation import Conversation, Killed, each_in_turn
from tests.simulation.host import NOBODYS, Host

# The package's names for these two are its functions.
obtain = import_module("certsync.issuer.ca.issuance.obtain")

BEGIN = datetime(2040, 1, 1, tzinfo=timezone.utc)
"""Later than any real day: OpenSSL judges by the real clock, and takes a later day for not yet."""
NAMES = ("www.example.com", "example.com")
PUBLIC = "203.0.113.10"
CUT_OFF = '{"schema": 2, "'
KEPT = Store.kept
WHOLE_MANIFEST = receiver.whole_manifest


def fleet(count: int) -> Fleet:
    """Return a fleet of so many backends."""
    hosts = tuple(
        Machine(f"backend-{n}", f"10.0.0.{n}", f"10.0.0.{n}") for n in range(1, count + 1)
    )
    return Fleet(
        lineages=(Lineage(NAMES),),
        public_addresses=(PUBLIC,),
        authority=Authority("https://ca.example/dir", roots="/roots.pem"),
        backends=hosts,
        balancers=(Machine("balancer", PUBLIC, "10.0.0.100"),),
        issuer_name=hosts[0].name,
        share_tickets=False,
    )


class World:
    """A fleet, its CA and its time."""

    def __init__(
        self, seed: int, folder: Path, *, backends: int,
        lifetime: timedelta,
    ) -> None:  # fmt: skip
        self.random = random.Random(seed)  # it has to be repeated, not to be secret
        self.folder = folder
        self.now = BEGIN
        self.epoch = Epoch(1, "f1" * 16)
        self.fleet = fleet(backends)
        self.ca = Ca(Signer("the CA"), Signer("another CA"), lifetime)
        self.hosts = {
            each.name: Host(each.name, folder / each.name) for each in self.fleet.backends
        }
        self.at_work: Host = self.issuer
        """On which machine the engine runs at the moment."""

        self.names_lead_here = True
        self.challenge_comes_through = True
        self.resolver_answers = True
        self.issuer_skew = timedelta(0)
        self.disk_full = False
        self.killed = BEGIN
        """When the process was killed last."""

        self.kill_at: Callable[[str], bool] | None = None
        """Whether the process ends before this step or file."""

        self.activations: list[tuple[datetime, str, str, int]] = []
        """When, by which machine, on which host, and which generation."""

        self._manifests: dict[tuple[object, ...], bytes | None] = {}
        self._kept: dict[tuple[object, ...], dict[int, Kept]] = {}
        self.accounts = 0
        self.reverted: set[str] = set()
        """The hosts whose disk was put back to an earlier day since an observer looked last."""

        self.damaged: set[tuple[str, int]] = set()
        """Which generations on which hosts somebody has broken."""

        self.forbidden: set[str] = set()
        """The fingerprints of what the issuer knows as withdrawn, or as compromised."""

        self.clones: list[Host] = []
        """Machines that are copies of the issuer, with addresses of their own."""

        for host in self.hosts.values():
            self.placeholder(host)
            self._admit_issuer(host)
        self._render(self.issuer)

    @property
    def issuer(self) -> Host:
        """The machine that is the issuer, as the fleet file says."""
        return self.hosts[self.fleet.issuer_name]

    @staticmethod
    def records(host: Host) -> list[Path]:
        """Return the files of what must not go live again, and of who refused the push key."""
        store, lineage = host.store, NAMES[0]
        return [
            store.withdrawn_file(lineage), store.compromised_file(lineage),
            store.fence_file(lineage),
        ]  # fmt: skip

    @property
    def has_broken_record(self) -> bool:
        """Whether one of the issuer's is cut off; it may come back with a snapshot."""
        records = self.records(self.issuer)
        return any(path.exists() and path.read_text() == CUT_OFF for path in records)

    @property
    def is_of_an_earlier_epoch(self) -> bool:
        """Whether the issuer's disk is from before a promotion: a person has to promote it."""
        return str(self.epoch) not in self.issuer.store.marker.read_text()

    @property
    def would_be_issuers(self) -> list[Host]:
        """The machines that run and think that they are the issuer."""
        among = [*self.hosts.values(), *self.clones]
        return [each for each in among if each.up and each.store.fleet_file.exists()]

    def is_well(self, host: Host) -> bool:
        """Return whether nothing of a host's own keeps a certificate of the issuer's from it."""
        # An issuer that was restored may know of an earlier fleet, until the next deploy.
        known = f'"{host.name}"' in self.issuer.store.fleet_file.read_text()
        return host.is_healthy and known and host.accepts_from == self.fleet.issuer_name

    def promote(self, name: str) -> None:
        """Make another backend the issuer, as `certsync promote --old-is-dead` does."""
        self.fleet = replace(self.fleet, issuer_name=name)
        self.epoch = replace(self.epoch, number=self.epoch.number + 1)
        self.deploy()

    def deploy(self) -> None:
        """Give every host in reach its role, as `certsync deploy` does."""
        if not self.issuer.up or not self.issuer.reachable:
            return
        self._render(self.issuer)
        for host in self.members:
            if host.up and host.reachable:
                self._admit_issuer(host)
                if host is not self.issuer:
                    host.store.fleet_file.unlink(missing_ok=True)

    @property
    def members(self) -> list[Host]:
        """The hosts that the fleet file names."""
        return [self.hosts[each.name] for each in self.fleet.backends]

    def forbid(self, numbers: Iterable[int]) -> None:
        """Remember generations of the issuer's that nobody must begin to serve again."""
        kept = self.issuer.store.kept(NAMES[0])
        self.forbidden |= {kept[each].manifest.fingerprint for each in numbers if each in kept}

    def _admit_issuer(self, host: Host) -> None:
        host.accepts_from = self.fleet.issuer_name
        host.accepted_key.write_text(f"# {self.epoch}\n")

    def _render(self, host: Host) -> None:
        host.store.fleet_file.write_text(json.dumps(self.fleet.to_json()))
        host.store.roots.write_text(self.ca.signer.root_pem)
        host.store.marker.write_text(marker("the issuer", Identity(host.name), self.epoch, ""))

    def placeholder(self, host: Host) -> None:
        """Give a host its placeholder, as a deploy does."""
        folder = host.folder / "etc/archive" / NAMES[0] / receiver.PLACEHOLDER
        folder.mkdir(parents=True)
        for name in receiver.FILES:
            (folder / name).write_text("")
        with host.at_work(self.now, local=False):
            receiver.point(NAMES[0], receiver.PLACEHOLDER)
        host.served = NOBODYS

    # What the engine sees

    def probe(
        self, address: str, _port: int, _name: str, _roots: str, at: datetime
    ) -> Served | Unreachable:
        """Shake hands with a backend."""
        host = self._at(address)
        if host is None or not host.up or not host.reachable:
            return Unreachable("no answer within 10 s")
        if host.served == NOBODYS:
            return Served(host.served, "a self-signed certificate")
        leaf = x509.load_der_x509_certificate(host.served[0])
        begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        refusal = "" if begin <= at < end else "the certificate has expired"
        return Served(host.served, refusal, begin, end)

    def _at(self, address: str) -> Host | None:
        return next(
            (self.hosts[each.name] for each in self.fleet.backends
             if each.private_address == address and each.name in self.hosts),
            None,
        )  # fmt: skip

    def sightings(self, fleet: Fleet, _name: str, _webroot: Path) -> list[Sighting]:
        """Ask every backend, and the public address, for a challenge file."""
        found = []
        for each in fleet.backends:
            host = self.hosts[each.name]
            there = host.up and host.reachable
            here = there and self.at_work is self.issuer
            found.append(
                Sighting(each.name, each.private_address, public=False, reached=there, seen=here,
                         answer="HTTP 404" if there else "timed out")
            )  # fmt: skip
        through = self.challenge_comes_through and self.at_work is self.issuer
        found.append(
            Sighting(PUBLIC, PUBLIC, public=True, reached=True, seen=through, answer="HTTP 404")
        )
        return found

    def looked_up(self, names: Sequence[str]) -> dict[str, dns.Found]:
        """Look names up."""
        if not self.resolver_answers:
            return {name: dns.Found(failure="temporary failure in name resolution\x07")
                    for name in names}  # fmt: skip
        address = PUBLIC if self.names_lead_here else "198.51.100.7"
        return {name: dns.Found((address,)) for name in names}

    def revoked(self, fullchain: bytes, _now: datetime) -> crl.Finding:
        """Look at the CA's revocation list."""
        if self.ca.mood.silent:
            return crl.Finding(unknown="the list cannot be fetched")
        [leaf, *_rest] = x509.load_pem_x509_certificates(fullchain)
        der = leaf.public_bytes(Encoding.DER)
        return crl.Finding("it is on the list" if fingerprint(der) in self.ca.revoked else "")

    # What the engine does

    @contextlib.contextmanager
    def connected(
        self,
        fleet: Fleet,
        hosts: Sequence[Machine],
        *,
        end_seconds: float = 5,
        clock_off: timedelta = timedelta(0),
    ) -> Iterator[list[Conversation]]:
        """Have the receivers to talk to."""
        del end_seconds
        others = [each for each in hosts if each != fleet.issuer]
        yield [
            Conversation(fleet.issuer, True, clock_off, world=self, host=self.at_work),
            *(Conversation(each, False, world=self, host=self.hosts[each.name]) for each in others),
        ]

    @contextlib.contextmanager
    def outbox(self, content: dict[str, bytes], name: str) -> Iterator[Path]:
        """Have files to push."""
        folder = self.folder / "outbox" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in content.items():
            (folder / file).write_bytes(text)
        yield folder

    def take(self, step: Step, work: Callable[[], Any]) -> Any:
        """Take a step of the engine's, unless it is the last moment of the process."""
        if self.kill_at and self.kill_at(step.value):
            raise Killed(step.value)
        return work()

    def write(self, path: Path, content: bytes, *, mode: int) -> None:
        """Write a file on the disk of the machine at work."""
        del mode
        if self.kill_at and self.kill_at(path.name):
            raise Killed(path.name)
        if self.disk_full:
            raise OSError(28, "No space left on device", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_bytes(content)
        new.replace(path)

    def make_key(self, _kind: object) -> ec.EllipticCurvePrivateKey:
        """Make a private key, the same one whenever the seed is."""
        return ec.derive_private_key(self.random.getrandbits(250) + 1, ec.SECP256R1())

    def place(self, _acme: Any, pending: Any, _profile: str, replaces: str, _tell: Any) -> Order:
        """Place an order."""
        names = json.loads((pending.folder / "wanted.json").read_text())["names"]
        issuer = self.fleet.issuer_name
        return self.ca.place(
            self.at_work.name, issuer, pending, names, self.now, replaces=bool(replaces)
        )

    def validate(self, _acme: Any, order: Order, _challenge: Any) -> None:
        """Have the names validated."""
        leads_here = (
            self.names_lead_here and self.challenge_comes_through and self.at_work is self.issuer
        )
        self.ca.validate(order, self.now, leads_here=leads_here)

    def finalize(self, _acme: Any, order: Order) -> Any:
        """Have it signed."""
        return self.ca.finalize(order, self.now)

    def revoke(self, exposed: Any, _fleet: Fleet, _store: Any) -> bool:
        """Have a certificate revoked."""
        self.ca.answer(self.now)
        leaf = x509.load_pem_x509_certificate(exposed.leaf.encode())
        self.ca.revoked.add(fingerprint(leaf.public_bytes(Encoding.DER)))
        return True

    def log_in(self, *_arguments: Any) -> str:
        """Log in to the CA."""
        self.ca.answer(self.now)
        folder = self.at_work.store.account(self.fleet.authority.directory)
        folder.mkdir(parents=True, exist_ok=True)
        if registration.read(folder):
            return str(registration.read(folder)["uri"])
        self.accounts += 1
        uri = f"https://ca.example/account/{self.accounts}"
        (folder / registration.KEY).write_text(f"key {self.accounts}")
        data = {"uri": uri, registration.KEY_SUM: registration.key_sum(folder)}
        (folder / registration.REGISTRATION).write_text(json.dumps(data))
        return uri

    def renewal_info(self, url: str, _bundle: str, now: datetime) -> ari.Answer:
        """Answer a GET about renewals."""
        if url == self.fleet.authority.directory:
            self.ca.answer(now)
            return ari.Answer(
                {"renewalInfo": "https://ca.example/ari"}, timedelta(hours=6), self.now
            )
        kept = self.at_work.store.kept(NAMES[0])
        identifier = url.rpartition("/")[2]
        for each in kept.values():
            if each.manifest.renewal_id == identifier:
                return self.ca.renewal_info(each.manifest, self.now)
        raise CaSilentError("404")

    def kept(self, store: Store, lineage: str) -> dict[int, Kept]:
        """Return the whole generations on a disk; read anew only where something has changed."""
        folder = store.archive(lineage)
        marks = (
            (str(folder), folder.stat().st_mtime_ns, len(self.damaged)) if folder.exists() else ()
        )
        if marks not in self._kept:
            self._kept = {marks: KEPT(store, lineage), **dict([*self._kept.items()][:9])}
        return dict(self._kept[marks])

    def whole_manifest(self, folder: Path) -> bytes | None:
        """Return a generation's manifest if it is intact; read anew only where that may change."""
        if not folder.exists():
            return None
        marks = (str(folder), folder.stat().st_mtime_ns, len(self.damaged))
        if marks not in self._manifests:
            self._manifests[marks] = WHOLE_MANIFEST(folder)
        return self._manifests[marks]

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Have the engine reach this world, and nothing else."""
        places: list[tuple[Any, str, Any]] = [
            (Store, "kept", lambda *arguments: self.kept(*arguments)),  # noqa: PLW0108  # it gets a self
            (certificate, "make_key", self.make_key),
            (proving, "probe", self.probe),
            (proving, "sleep", lambda _: None),
            (proving, "ssl", SimpleNamespace(create_default_context=lambda **_: None)),
            (parallel, "each", lambda work, items: [work(each) for each in items]),
            (
                Patience,
                "each",
                lambda _, work, items, *_always: [(one, work(one)) for one in items],
            ),
            (canary, "look", self.sightings),
            (identity, "of_this_machine", lambda _: Identity(self.at_work.name)),
            (dns, "look_up_all", self.looked_up),
            (crl, "by_list", self.revoked),
            (ari, "_get", self.renewal_info),
            (right_time, "ask", lambda *_: None if self.ca.mood.silent else self.now),
            (receivers, "connected", self.connected),
            (receivers, "each", each_in_turn),
            (outgoing, "outbox", self.outbox),
            (outgoing, "remove_outbox", lambda: None),
            (steps, "take", self.take),
            (obtain, "place", self.place),
            (obtain, "validate", self.validate),
            (obtain, "finalize", self.finalize),
            (obtain, "is_over", lambda *_: True),
            (obtain, "alternatives", lambda *_: iter(())),
            (obtain, "log_in", self.log_in),
            (obtain, "account_key", lambda _: None),
            (obtain, "Network", lambda *_: SimpleNamespace(ca_date=self.now)),
            (obtain, "open_directory", lambda *_: None),
            (obtain, "check_profile", lambda *_, **__: None),
            (issuance, "revoke", self.revoke),
            (receiver, "whole_manifest", self.whole_manifest),
            (receiver, "rights_of", lambda _: contextlib.nullcontext()),
            (receiver, "sync_folder", lambda _: None),
            (syslog, "syslog", lambda *_: None),
            (os, "fsync", lambda _: None),
        ]
        with contextlib.ExitStack() as stack:
            for place, name, instead in places:
                stack.enter_context(patch.object(place, name, instead))
            for module in writers():
                stack.enter_context(patch.object(module, "write_whole", self.write))
            yield


def writers() -> list[Any]:
    """Return the modules that write files whole."""
    import sys

    return [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("certsync.") and module is not files and hasattr(module, "write_whole")
    ]
