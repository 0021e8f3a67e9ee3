"""The fleet: the values in a fleet file, validated elsewhere.

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
"""The rendered fleet's schema. Older ones are read, newer ones refused. When it grows, so does
`answers.PROTOCOL`."""

SYSTEM_ROOTS = "/etc/ssl/certs/ca-certificates.crt"
"""Where Debian and Ubuntu keep the system's trusted roots."""

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
    """The IP address at which the fleet's hosts reach it."""

    ssh_user: str = "root"
    ssh_port: int = 22
    ssh_key: str = ""
    """The operator's private key file, absolute; empty: OpenSSH's default."""

    def to_json(self) -> dict[str, Any]:
        """Return it as data for `json.dumps`; `pyinfra NAME.py debug-inventory` needs this."""
        return asdict(self)


@dataclass(frozen=True)
class Authority:
    """The CA that signs the fleet's certificate."""

    directory: str
    """The ACME directory's URL (RFC 8555 section 7.1.1)."""

    contact: str = ""
    """An e-mail address for the account; Let's Encrypt no longer uses it."""

    directory_bundle: str = ""
    """PEM file on the operator's machine to verify the CA's own HTTPS; empty: system roots."""

    roots: str = ""
    """PEM file on the operator's machine to verify certificates; empty: system roots."""

    eab_key_id: str = ""
    """The key identifier of an external account binding (RFC 8555 section 7.3.4); empty: none."""

    @property
    def publicly_trusted(self) -> bool:
        """Whether browsers are expected to trust this CA's certificates."""
        return not self.roots and self.directory != LETSENCRYPT_STAGING


@dataclass(frozen=True)
class Lineage:
    """One certificate of a fleet: its names, where it is served, how it is ordered and used."""

    names: tuple[str, ...]
    """The first one is the lineage's name."""

    serving: tuple[str, ...] = ()
    """The backends that serve it to the public, by name; none: all of them."""

    key_type: KeyType = KeyType.ECDSA_P256
    profile: str = ""
    """The CA's certificate profile, by name; empty: the CA chooses."""

    reuse_key: bool = False
    """Whether a renewal keeps the private key."""

    site: Site = Site()

    @property
    def name(self) -> str:
        """The name its certificates are kept under."""
        return self.names[0]


@dataclass(frozen=True)
class Fleet:
    """Everything about one fleet."""

    lineages: tuple[Lineage, ...]
    """Its certificates; at least one."""

    public_addresses: tuple[str, ...]
    """The addresses that the names' A and AAAA records must list."""

    authority: Authority
    backends: tuple[Machine, ...]
    balancers: tuple[Machine, ...]
    issuer_name: str
    passthrough: bool = True
    firewall: Firewall = Firewall()
    balancing: Balancing = Balancing()
    balancer: Balancer = Balancer()
    share_tickets: bool = True
    """Whether a TLS session begun with one backend can be resumed with any other."""

    renewal: Renewal = Renewal()
    notify: Notify = Notify()
    metrics: Metrics = Metrics()
    known_hosts: str = ""
    """The operator's known_hosts file, absolute; empty: OpenSSH's default."""

    templates: str = ""
    """The folder of template overrides beside the fleet file, absolute; empty: none."""

    @property
    def name(self) -> str:
        """The fleet's name: that of the first lineage in its file."""
        return self.lineages[0].name

    @property
    def is_managed(self) -> bool:
        """Whether certsync manages all its sites, and so the default servers too."""
        return all(each.site.kind is not SiteKind.UNMANAGED for each in self.lineages)

    @property
    def has_several(self) -> bool:
        """Whether it has several lineages, so that messages have to name them."""
        return len(self.lineages) > 1

    def members(self, lineage: Lineage) -> tuple[Machine, ...]:
        """Return the backends that balancers may send a lineage's connections to."""
        if not lineage.serving:
            return self.backends
        return tuple(host for host in self.backends if host.name in lineage.serving)

    def holders(self, lineage: Lineage) -> tuple[Machine, ...]:
        """Return the backends that hold a lineage's certificate: its members and the issuer."""
        among = (*self.members(lineage), self.issuer)
        return tuple(host for host in self.backends if host in among)

    @property
    def serving_all(self) -> tuple[Machine, ...]:
        """The backends that serve every lineage.

        A provider's balancer reads no server names: it sends any name to any of its members.
        """
        members = [self.members(each) for each in self.lineages]
        return tuple(host for host in self.backends if all(host in each for each in members))

    def lineage_named(self, name: str) -> Lineage:
        """Return the lineage with this name.

        Raises:
            StopIteration: there is none.
        """
        return next(each for each in self.lineages if each.name == name)

    @property
    def trusted(self) -> tuple[str, ...]:
        """The addresses and networks trusted to state the client's address."""
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
        """Return this fleet as data for `json.dumps`, with its schema number."""
        return {"schema": SCHEMA, **codec.plain(self)}

    @classmethod
    def from_json(cls, text: str | bytes) -> Fleet:
        """Parse a fleet that this or an earlier version's `to_json` wrote.

        Raises:
            NewerSchemaError: its schema is newer.
            StoreError: it is not a rendered fleet.
        """
        try:
            data = json.loads(text)
            schema = data.pop("schema")
            if schema > SCHEMA:
                raise NewerSchemaError(
                    f"the rendered fleet has schema {schema}, but this certsync reads up to "
                    f"{SCHEMA}",
                    "deploy again with the newer certsync",
                )
            return codec.typed(data if schema >= SCHEMA else _with_lineages(data), cls)
        except codec.NOT_THESE as error:
            raise StoreError(
                f"the rendered fleet cannot be read: {error!r}", "run `certsync deploy` again"
            ) from None


def _with_lineages(data: dict[str, Any]) -> dict[str, Any]:
    """Convert a fleet of schema 3 or older, where the first lineage was kept apart."""
    keys = ("names", "serving", "key_type", "profile", "reuse_key", "site")
    first = {key: data.pop(key) for key in keys if key in data}
    return {**data, "lineages": [first, *data.pop("others", ())]}
