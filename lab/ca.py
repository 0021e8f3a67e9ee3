"""The lab's CA host: Pebble, and `pebble-challtestsrv` as the DNS of all hosts.

Pebble has two roots: one for its own HTTPS, made here once per lab, and one that issues
certificates, new at each start of Pebble and read from its management port.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from lab import network
from lab.errors import LabError
from lab.machine import Machine
from lab.shell import run

DIRECTORY_PORT = 14000
MANAGEMENT_PORT = 15000
DNS_MANAGEMENT_PORT = 8055
LOG = "var/log/pebble.log"

DEFAULTS = {"PEBBLE_VA_NOSLEEP": "1"}
"""Pebble's other quirks stay on: it refuses 5 % of good nonces, and so on."""

PROFILES = {"default": {"description": "90 days", "validityPeriod": 90 * 86400}}
"""Only one: an order without a profile gets a random one of those configured."""

PEBBLE_UNIT = f"""\
[Unit]
Description=Pebble, a test CA
After=challtestsrv.service
[Service]
EnvironmentFile=/etc/pebble/environment
ExecStart=/opt/pebble/pebble -config /etc/pebble/config.json -dnsserver {{address}}:53
StandardOutput=append:/{LOG}
StandardError=append:/{LOG}
[Install]
WantedBy=multi-user.target
"""

DNS_UNIT = f"""\
[Unit]
Description=The fleet's DNS
[Service]
ExecStart=/opt/pebble/pebble-challtestsrv -dnsserver {{address}}:53 \
 -management {{address}}:{DNS_MANAGEMENT_PORT} -defaultIPv4 {{ipv4}} -defaultIPv6 {{ipv6}} \
 -doh "" -http01 "" -https01 "" -tlsalpn01 ""
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class CertificateAuthority:
    """The CA host's two services, for tests and people."""

    machine: Machine
    public: tuple[str, str]
    """The addresses, v4 and v6, that every name resolves to at first."""
    defaults: dict[str, str] = field(default_factory=lambda: dict(DEFAULTS))

    @property
    def directory(self) -> str:
        """The ACME directory's URL."""
        return f"https://{self.machine.address}:{DIRECTORY_PORT}/dir"

    @property
    def bundle(self) -> Path:
        """The root that verifies the CA's own HTTPS."""
        return self.machine.run_folder / "directory-bundle.pem"

    @property
    def roots(self) -> Path:
        """The root that verifies issued certificates."""
        return self.machine.run_folder / "roots.pem"

    def install(self) -> None:
        """Write the services to the CA host's disk before it boots."""
        root, address = self.machine.root, self.machine.address
        self._make_https()
        (root / "etc/pebble").mkdir(exist_ok=True)
        for name in ("https.pem", "https.key"):
            (root / "etc/pebble" / name).write_text((self.machine.run_folder / name).read_text())
        self._write_config(DEFAULTS, PROFILES, {})
        ipv4, ipv6 = self.public
        units = {"pebble": PEBBLE_UNIT, "challtestsrv": DNS_UNIT}
        wants = root / "etc/systemd/system/multi-user.target.wants"
        for name, text in units.items():
            unit = root / f"etc/systemd/system/{name}.service"
            unit.write_text(text.format(address=address, ipv4=ipv4, ipv6=ipv6))
            (wants / unit.name).symlink_to(f"/etc/systemd/system/{unit.name}")

    def restart(
        self,
        environment: dict[str, str] | None = None,
        profiles: dict[str, dict[str, object]] | None = None,
        bindings: dict[str, str] | None = None,
    ) -> None:
        """Restart Pebble: new roots, no accounts, and other settings if given.

        With ``bindings``, key identifiers and their HMAC keys in base64url, accounts need external
        account binding to one of them.
        """
        environment = {**self.defaults, **(environment or {})}
        self._write_config(environment, profiles or PROFILES, bindings or {})
        self.machine.sh("systemctl restart pebble")
        self.fetch_roots()

    def fetch_roots(self) -> None:
        """Write Pebble's current issuing root to ``roots``."""
        self.roots.write_text(self.root(0))

    def root(self, number: int) -> str:
        """Return an issuing root as PEM; from 1 on, those of the alternate chains.

        `PEBBLE_ALTERNATE_ROOTS` sets their number.
        """
        root = self._ask(MANAGEMENT_PORT, f"/roots/{number}", tls=True)
        if "BEGIN CERTIFICATE" not in root:
            raise LabError(f"Pebble's management port sent no root: {root[:200]}")
        return root

    def set_address(self, name: str, *, ipv4: list[str], ipv6: list[str]) -> None:
        """Let a name resolve to other addresses than the balancer's."""
        for path, addresses in (("a", ipv4), ("aaaa", ipv6)):
            self._ask(DNS_MANAGEMENT_PORT, f"/clear-{path}", {"host": name})
            if addresses:
                body = {"host": name, "addresses": addresses}
                self._ask(DNS_MANAGEMENT_PORT, f"/add-{path}", body)

    def suggest(self, fullchain: str, start: datetime, end: datetime) -> None:
        """Let the CA suggest this window for renewing a certificate (RFC 9773)."""
        window = {"start": start.isoformat(), "end": end.isoformat()}
        body = {"certificate": fullchain, "ariResponse": json.dumps({"suggestedWindow": window})}
        self._ask(MANAGEMENT_PORT, "/set-renewal-info/", body, tls=True)

    def forbid_all_but(self, name: str, *values: str) -> None:
        """Set a name's CAA records to these `issue` properties; none: no records."""
        self._ask(DNS_MANAGEMENT_PORT, "/clear-caa", {"host": name})
        if values:
            policies = [{"tag": "issue", "value": value} for value in values]
            self._ask(DNS_MANAGEMENT_PORT, "/add-caa", {"host": name, "policies": policies})

    def status_of(self, serial: int) -> dict[str, Any]:
        """Return the CA's record of a certificate: its `Status`, and the `Reason` if revoked."""
        text = self._ask(MANAGEMENT_PORT, f"/cert-status-by-serial/{serial:x}", tls=True)
        answer: dict[str, Any] = json.loads(text)
        return answer

    def log(self) -> str:
        """Return Pebble's log."""
        return (self.machine.root / LOG).read_text(errors="replace")

    def orders(self) -> int:
        """Return the number of orders, not counting refused nonces."""
        return self.log().count("Added order ")

    def _write_config(
        self,
        environment: dict[str, str],
        profiles: dict[str, dict[str, object]],
        bindings: dict[str, str],
    ) -> None:
        folder = self.machine.root / "etc/pebble"
        config = {
            "pebble": {
                "listenAddress": f"0.0.0.0:{DIRECTORY_PORT}",
                "managementListenAddress": f"0.0.0.0:{MANAGEMENT_PORT}",
                "certificate": "/etc/pebble/https.pem",
                "privateKey": "/etc/pebble/https.key",
                "httpPort": 80,
                "tlsPort": 443,
                "ocspResponderURL": "",
                "externalAccountBindingRequired": bool(bindings),
                "externalAccountMACKeys": bindings,
                "retryAfter": {"authz": 1, "order": 1},
                "profiles": profiles,
            }
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2))
        lines = [f"{key}={value}\n" for key, value in environment.items()]
        (folder / "environment").write_text("".join(lines))

    def _make_https(self) -> None:
        folder, address = self.machine.run_folder, self.machine.address
        key, root = folder / "https-ca.key", self.bundle
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        run(["openssl", "req", "-x509", *new_key, "-keyout", key, "-out", root, "-days", "30",
             "-subj", "/CN=certsync lab: HTTPS of the CA host",
             "-addext", "keyUsage=critical,keyCertSign"])  # fmt: skip
        run(["openssl", "req", "-x509", *new_key, "-keyout", folder / "https.key",
             "-out", folder / "https.pem", "-days", "30", "-subj", "/CN=lab CA host",
             "-CA", root, "-CAkey", key, "-addext", f"subjectAltName=IP:{address}",
             "-addext", "basicConstraints=critical,CA:FALSE"])  # fmt: skip

    def _ask(
        self, port: int, path: str, body: Mapping[str, object] | None = None, *, tls: bool = False
    ) -> str:
        scheme = "https" if tls else "http"
        operator = network.namespace(self.machine.lab, "operator")
        argv: list[str | Path] = [
            "ip", "netns", "exec", operator, "curl", "-sS", "--max-time", "5", "--retry", "20",
            "--retry-delay", "1", "--retry-connrefused", "--cacert", self.bundle,
        ]  # fmt: skip
        if body is not None:
            argv += ["-d", json.dumps(body)]
        return run([*argv, f"{scheme}://{self.machine.address}:{port}{path}"])
