"""What a fleet is: the values that a fleet file says, checked elsewhere.

The issuer reads its rendered copy (`Fleet.to_json`) without the libraries that validate the file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from certsync.model import codec
from certsync.model.errors import NewerSchemaError, StoreError
from certsync.model.options import (
    Balancer,
    Balancing,
    Firewall,
    KeyType,
    Metrics,
    Notify,
    Renewal,
    Site,
    SiteKind,
)

SCHEMA = 4
"""The rendered fleet's schema. An older one is read, a newer one is refused."""

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
class Lineage:
    """One certificate of a fleet: its names, who serves it, and how it is ordered and used."""

    names: tuple[str, ...]
    """The first one is the lineage's name."""

    serving: tuple[str, ...] = ()
    """The names of the backends that serve it to the public; none: all."""

    key_type: KeyType = KeyType.ECDSA_P256
    profile: str = ""
    """The CA's certificate profile to ask for by name; empty: the CA's choice."""

    reuse_key: bool = False
    """Whether a renewal keeps the private key."""

    site: Site = Site()

    @property
    def name(self) -> str:
        """The name under which all its certificates are kept."""
        return self.names[0]


@dataclass(frozen=True)
class Fleet:
    """Everything about one fleet."""

    lineages: tuple[Lineage, ...]
    """Its certificates; at least one."""

    public_addresses: tuple[str, ...]
    """What the names' A and AAAA records must show."""

    authority: Authority
    backends: tuple[Machine, ...]
    balancers: tuple[Machine, ...]
    issuer_name: str
    passthrough: bool = True
    firewall: Firewall = Firewall()
    balancing: Balancing = Balancing()
    balancer: Balancer = Balancer()
    share_tickets: bool = True
    """Whether a TLS session that one backend began goes on with any other."""

    renewal: Renewal = Renewal()
    notify: Notify = Notify()
    metrics: Metrics = Metrics()
    known_hosts: str = ""
    """The operator's known_hosts file, absolute; empty: what OpenSSH uses by itself."""

    templates: str = ""
    """The folder beside the fleet file with templates of its own, absolute; empty: none."""

    @property
    def name(self) -> str:
        """What the fleet goes by: the name of the lineage that its file names first."""
        return self.lineages[0].name

    @property
    def is_managed(self) -> bool:
        """Whether all its sites are ours, and so the default servers too."""
        return all(each.site.kind is not SiteKind.UNMANAGED for each in self.lineages)

    @property
    def has_several(self) -> bool:
        """Whether it has more than one lineage, so that messages have to name them."""
        return len(self.lineages) > 1

    def members(self, lineage: Lineage) -> tuple[Machine, ...]:
        """Return the backends that the balancers may send a lineage's connections to."""
        if not lineage.serving:
            return self.backends
        return tuple(host for host in self.backends if host.name in lineage.serving)

    def holders(self, lineage: Lineage) -> tuple[Machine, ...]:
        """Return the backends that have a lineage's certificate: its members, and the issuer."""
        among = (*self.members(lineage), self.issuer)
        return tuple(host for host in self.backends if host in among)

    def lineage_named(self, name: str) -> Lineage:
        """Return the lineage of this name.

        Raises:
            StopIteration: there is none.
        """
        return next(each for each in self.lineages if each.name == name)

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
        return {"schema": SCHEMA, **codec.plain(self)}

    @classmethod
    def from_json(cls, text: str | bytes) -> Fleet:
        """Return the fleet that `to_json` wrote, here or by an earlier version.

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
            return codec.typed(data if schema >= SCHEMA else _with_lineages(data), cls)
        except codec.NOT_THESE as error:
            raise StoreError(
                f"the rendered fleet cannot be read: {error!r}", "run `certsync deploy` again"
            ) from None


def _with_lineages(data: dict[str, Any]) -> dict[str, Any]:
    """Return a fleet of schema 3 or before, where the first lineage stood beside the others."""
    keys = ("names", "serving", "key_type", "profile", "reuse_key", "site")
    first = {key: data.pop(key) for key in keys if key in data}
    return {**data, "lineages": [first, *data.pop("others", ())]}
