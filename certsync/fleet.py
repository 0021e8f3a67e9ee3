"""What a fleet is: the values that a fleet file says, checked elsewhere.

Only the standard library is used, because pyinfra may load this from another environment and the
issuer reads its rendered copy (`Fleet.to_json`) without the libraries that validate the file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from certsync.errors import NewerSchemaError, StoreError

SCHEMA = 2
"""The rendered fleet's schema: one less lacks what has a default. A newer one is refused."""

SYSTEM_ROOTS = "/etc/ssl/certs/ca-certificates.crt"
"""Where Debian and Ubuntu keep the roots that the system trusts."""

LETSENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
LETSENCRYPT_STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
DIRECTORIES = {"letsencrypt": LETSENCRYPT, "letsencrypt-staging": LETSENCRYPT_STAGING}

DEFAULT_HEALTH_PATH = "/.well-known/certsync-health"


class KeyType(str, Enum):
    """The kinds of private key that Let's Encrypt signs."""

    ECDSA_P256 = "ecdsa-p256"
    ECDSA_P384 = "ecdsa-p384"
    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"


class SiteKind(str, Enum):
    """Who writes the site's nginx configuration, and what it does."""

    STATIC = "static"
    PROXY = "proxy"
    UNMANAGED = "unmanaged"


class WebAccess(str, Enum):
    """From where a backend's ports 80 and 443 may be reached."""

    ANYWHERE = "anywhere"
    BALANCERS = "balancers"


class OnCertificateFailure(str, Enum):
    """What the balancer does when every member fails for the certificate they share."""

    SERVE = "serve"
    REFUSE = "refuse"


class Scheduler(str, Enum):
    """What starts the renewal on the issuer."""

    CRON = "cron"
    SYSTEMD = "systemd"


class Event(str, Enum):
    """What a fleet's people can be told of, wherever they are."""

    RUN_FAILED = "run-failed"
    """A renewal run has failed."""

    BEHIND = "behind"
    """A backend has not served the current generation for over a day."""

    EXPIRING = "expiring"
    """Less than a quarter of the certificate's lifetime is left."""


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
class Site:
    """What the backends serve."""

    kind: SiteKind = SiteKind.STATIC
    root: str = "/var/www/html"
    """The folder of a static site, on the backends."""

    upstream: str = ""
    """Where an application on the backend itself listens, `127.0.0.1:3000`; for `proxy`."""

    test_page: bool = False
    """Whether `/lb.html` shows the backend's name in a colour of its own."""


@dataclass(frozen=True)
class Firewall:
    """What UFW is told, where it is present."""

    enable: bool = False
    """Switch UFW on where it is off, SSH allowed first."""

    web_access: WebAccess = WebAccess.ANYWHERE


@dataclass(frozen=True)
class Balancing:
    """How the balancer checks its members."""

    health_path: str = DEFAULT_HEALTH_PATH
    """Asked over verified HTTPS; an answer of 200 to 399 is good."""

    on_certificate_failure: OnCertificateFailure = OnCertificateFailure.SERVE


@dataclass(frozen=True)
class Renewal:
    """How often and by what the issuer looks whether anything is due."""

    every_hours: int = 1
    """1, 2, 3, 4, 6 or 12."""

    scheduler: Scheduler = Scheduler.CRON


@dataclass(frozen=True)
class Notify:
    """Who hears of it, apart from `certsync status`. The addresses are secrets, on the issuer."""

    events: tuple[Event, ...] = ()
    heartbeat_url: str = ""
    """Asked for by every good run, so that silence alarms elsewhere; empty: none."""


@dataclass(frozen=True)
class Metrics:
    """What node_exporter is given to read."""

    folder: str = ""
    """node_exporter's textfile folder, on the issuer; empty: nothing is written."""


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
            site, firewall, balancing = data["site"], data["firewall"], data["balancing"]
            # What follows came with schema 2.
            renewal, notify = data.get("renewal", {}), data.get("notify", {})
            return cls(
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
                site=Site(**{**site, "kind": SiteKind(site["kind"])}),
                firewall=Firewall(firewall["enable"], WebAccess(firewall["web_access"])),
                balancing=Balancing(
                    balancing["health_path"],
                    OnCertificateFailure(balancing["on_certificate_failure"]),
                ),
                renewal=Renewal(
                    renewal.get("every_hours", 1), Scheduler(renewal.get("scheduler", "cron"))
                ),
                notify=Notify(
                    tuple(Event(each) for each in notify.get("events", ())),
                    notify.get("heartbeat_url", ""),
                ),
                metrics=Metrics(**data.get("metrics", {})),
                known_hosts=data["known_hosts"],
                templates=data.get("templates", ""),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"the rendered fleet cannot be read: {error!r}", "run `certsync deploy` again"
            ) from None
