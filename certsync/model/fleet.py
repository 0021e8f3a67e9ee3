"""What a fleet is: the values that a fleet file says, checked elsewhere.

Only the standard library is used, because pyinfra may load this from another environment and the
issuer reads its rendered copy (`Fleet.to_json`) without the libraries that validate the file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from certsync.model.errors import NewerSchemaError, StoreError
from certsync.model.options import (
    Balancer,
    Balancing,
    Event,
    Firewall,
    KeyType,
    Metrics,
    Notify,
    Renewal,
    Scheduler,
    Site,
    SiteKind,
    WebAccess,
)

SCHEMA = 3
"""The rendered fleet's schema: one less lacks what has a default. A newer one is refused."""

SYSTEM_ROOTS = "/etc/ssl/certs/ca-certificates.crt"
"""Where Debian and Ubuntu keep the roots that the system trusts."""

LETSENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
LETSENCRYPT_STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
DIRECTORIES = {"letsencrypt": LETSENCRYPT, "letsencrypt-staging": LETSENCRYPT_STAGING}


@dataclass(frozen=True)
class Machine:
    """One host of the fleet: a backend or a balancer."""

    name: str
    """Its name in the fleet, unique."""

    address: str
    """Where the operator's SSH reaches it: an IP address or a host name."""

    private_address: str
    """The IP address by which the fleet's hosts reach it."""

    ssh_user: str = "root"
    ssh_port: int = 22
    ssh_key: str = ""
    """The operator's private key file, absolute; empty: what OpenSSH finds by itself."""

    def to_json(self) -> dict[str, Any]:
        """Return it as what `json.dumps` takes; `pyinfra NAME.py debug-inventory` asks for this."""
        return asdict(self)


@dataclass(frozen=True)
class Authority:
    """The CA that signs the fleet's certificate."""

    directory: str
    """The ACME directory's URL (RFC 8555 section 7.1.1)."""

    contact: str = ""
    """An e-mail address for the account; Let's Encrypt no longer sends to it."""

    directory_bundle: str = ""
    """PEM file, on the operator's machine, that verifies the CA's own HTTPS; empty: system's."""

    roots: str = ""
    """PEM file, on the operator's machine, that verifies issued certificates; empty: system's."""

    eab_key_id: str = ""
    """The key identifier of an external account binding (RFC 8555 section 7.3.4); empty: none."""

    @property
    def publicly_trusted(self) -> bool:
        """Whether browsers are expected to trust what this CA issues."""
        return not self.roots and self.directory != LETSENCRYPT_STAGING


@dataclass(frozen=True)
class Wanted:
    """A certificate that a fleet has besides its first one, and who serves it."""

    names: tuple[str, ...]
    serving: tuple[str, ...]
    """The backends' names."""

    key_type: KeyType
    profile: str
    reuse_key: bool
    site: Site


@dataclass(frozen=True)
class Fleet:
    """Everything about one fleet. ``names[0]`` is the lineage's name."""

    names: tuple[str, ...]
    public_addresses: tuple[str, ...]
    """What the names' A and AAAA records must show."""

    authority: Authority
    backends: tuple[Machine, ...]
    balancers: tuple[Machine, ...]
    issuer_name: str
    passthrough: bool = True
    key_type: KeyType = KeyType.ECDSA_P256
    profile: str = ""
    """The CA's certificate profile to ask for by name; empty: the CA's choice."""

    reuse_key: bool = False
    """Whether a renewal keeps the private key."""

    site: Site = Site()
    firewall: Firewall = Firewall()
    balancing: Balancing = Balancing()
    balancer: Balancer = Balancer()
    share_tickets: bool = True
    """Whether a TLS session that one backend began goes on with any other."""

    serving: tuple[str, ...] = ()
    """The backends that serve these names to the public; none: all."""

    others: tuple[Wanted, ...] = ()
    """The certificates besides this one."""

    renewal: Renewal = Renewal()
    notify: Notify = Notify()
    metrics: Metrics = Metrics()
    known_hosts: str = ""
    """The operator's known_hosts file, absolute; empty: what OpenSSH uses by itself."""

    templates: str = ""
    """The folder beside the fleet file with templates of its own, absolute; empty: none."""

    @property
    def lineage(self) -> str:
        """The name under which all its certificates are kept."""
        return self.names[0]

    @property
    def lineages(self) -> tuple[Fleet, ...]:
        """The fleet once for each of its certificates, as if it had no other."""
        alone = replace(self, others=())
        return (alone, *(_with(alone, other) for other in self.others))

    @property
    def is_managed(self) -> bool:
        """Whether all its sites are ours, and so the default servers too."""
        return all(each.site.kind is not SiteKind.UNMANAGED for each in self.lineages)

    @property
    def members(self) -> tuple[Machine, ...]:
        """The backends that the balancers may send this lineage's connections to."""
        if not self.serving:
            return self.backends
        return tuple(host for host in self.backends if host.name in self.serving)

    @property
    def holders(self) -> tuple[Machine, ...]:
        """The backends that have this lineage's certificate: its members, and the issuer."""
        among = (*self.members, self.issuer)
        return tuple(host for host in self.backends if host in among)

    @property
    def trusted(self) -> tuple[str, ...]:
        """The addresses and networks whose word on the client's address counts."""
        return (*(host.private_address for host in self.balancers), *self.balancer.networks)

    @property
    def issuer(self) -> Machine:
        """The backend that talks to the CA."""
        return next(host for host in self.backends if host.name == self.issuer_name)

    @property
    def replicas(self) -> tuple[Machine, ...]:
        """Every other backend."""
        return tuple(host for host in self.backends if host.name != self.issuer_name)

    @property
    def machines(self) -> tuple[Machine, ...]:
        """All hosts, backends first."""
        return self.backends + self.balancers

    def to_json(self) -> dict[str, Any]:
        """Return this fleet as what `json.dumps` takes, with its schema number."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, text: str) -> Fleet:
        """Return the fleet that `to_json` wrote.

        Raises:
            NewerSchemaError: it is of a newer schema.
            StoreError: it is no rendered fleet at all.
        """
        try:
            data = json.loads(text)
            schema = data.pop("schema")
            if schema > SCHEMA:
                raise NewerSchemaError(
                    f"the rendered fleet has schema {schema}, and this certsync reads {SCHEMA}",
                    "deploy with the newer certsync again",
                )
            return _fleet(data)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(
                f"the rendered fleet cannot be read: {error!r}", "run `certsync deploy` again"
            ) from None


def _fleet(data: dict[str, Any]) -> Fleet:
    site, firewall, balancing = data["site"], data["firewall"], data["balancing"]
    # What follows came with schema 2, and what has to do with the balancer's ways with 3.
    renewal, notify = data.get("renewal", {}), data.get("notify", {})
    return Fleet(
        names=tuple(data["names"]),
        public_addresses=tuple(data["public_addresses"]),
        authority=Authority(**data["authority"]),
        backends=tuple(Machine(**host) for host in data["backends"]),
        balancers=tuple(Machine(**host) for host in data["balancers"]),
        issuer_name=data["issuer_name"],
        passthrough=data["passthrough"],
        key_type=KeyType(data["key_type"]),
        profile=data.get("profile", ""),
        reuse_key=data.get("reuse_key", False),
        site=Site.from_json(site),
        firewall=Firewall(firewall["enable"], WebAccess(firewall["web_access"])),
        balancing=Balancing.from_json(balancing),
        balancer=Balancer.from_json(data.get("balancer", {})),
        share_tickets=data.get("share_tickets", True),
        serving=tuple(data.get("serving", ())),
        others=tuple(_wanted(each) for each in data.get("others", ())),
        renewal=Renewal(renewal.get("every_hours", 1), Scheduler(renewal.get("scheduler", "cron"))),
        notify=Notify(
            tuple(Event(each) for each in notify.get("events", ())),
            notify.get("heartbeat_url", ""),
        ),
        metrics=Metrics(**data.get("metrics", {})),
        known_hosts=data["known_hosts"],
        templates=data.get("templates", ""),
    )


def _with(fleet: Fleet, other: Wanted) -> Fleet:
    return replace(
        fleet,
        names=other.names,
        serving=other.serving,
        key_type=other.key_type,
        profile=other.profile,
        reuse_key=other.reuse_key,
        site=other.site,
    )


def _wanted(data: dict[str, Any]) -> Wanted:
    return Wanted(
        tuple(data["names"]),
        tuple(data["serving"]),
        KeyType(data["key_type"]),
        data["profile"],
        data["reuse_key"],
        Site.from_json(data["site"]),
    )
