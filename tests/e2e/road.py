"""The language of the end-to-end tests: a fleet on a lab, and looking at it from outside."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography import x509

from certsync.issuer.backoff import Tries
from certsync.issuer.ca.due import request_key
from certsync.issuer.ca.ordering import DROP_REPLACES_AFTER
from certsync.issuer.situation import look
from certsync.issuer.state import State
from certsync.issuer.store import Store
from certsync.model.certificate import parse_chain
from certsync.operator.deployment.plan import Step, deviations
from lab import Lab, Machine
from lab.world import CHECKOUT

NAME = "passthrough.example.com"
LINEAGE = f"/etc/certsync/archive/{NAME}"
LIVE = f"/etc/certsync/live/{NAME}"
ISSUE = "certsync issue"

UNFOUND = "could not find order resulting in the given certificate serial number"
"""What Pebble 2.10 says where the serial of what is replaced begins with a zero byte."""

MOVED = 'import os; del os.environ["LD_PRELOAD"]; from certsync.main import main; main()'
"""Starts certsync with libfaketime in this process and not in those that it starts."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def everything(self) -> str:
        """All that it printed."""
        return f"{self.stdout}\n{self.stderr}"


class Road:
    """A fleet file for a lab, and what an operator does with it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.fleet_file = folder / "lab.toml"
        self.fleet_file.write_text(fleet_text(lab))
        self.environment: Mapping[str, str] = {}
        """What an operator's commands have in their environment besides: a provider's token."""

        inventory = folder / "lab.py"
        inventory.write_text((CHECKOUT / "inventory/lab.py").read_text())
        # Its hourly run would come in between once in a while; `test_cron` lets it.
        for machine in lab.backends:
            machine.sh("systemctl mask --now cron")

    # What an operator does

    def operator(self, *argv: str, seconds: float = 300) -> Ended:
        """Run a command on the operator's machine."""
        ended = self._operator(*argv, seconds=seconds)
        if UNFOUND in ended.everything and self.spare_the_ca_a_serial():
            ended = self._operator(*argv, seconds=seconds)
        return ended

    def _operator(self, *argv: str, seconds: float) -> Ended:
        words = [*self.lab.operator_argv(), *argv]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        print("$", " ".join(argv))
        done = subprocess.run(
            words,
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            env={**os.environ, "PATH": path, **self.environment},
        )
        print(done.stdout, done.stderr, f"exit {done.returncode}", sep="\n")
        return Ended(done.returncode, done.stdout, done.stderr)

    def certsync(self, verb: str, *options: str) -> Ended:
        """Run one of the operator's commands on the fleet file."""
        return self.operator("certsync", verb, str(self.fleet_file), *options)

    def deploy(self, *options: str) -> Ended:
        """Deploy the fleet."""
        return self.certsync("deploy", *options)

    def status(self) -> dict[str, Any]:
        """Return what `certsync status --json` says."""
        answer: dict[str, Any] = json.loads(self.certsync("status", "--json").stdout)
        return answer

    def as_announced(self, verb: str, *options: str) -> Ended:
        """Run a command for real after a dry run, and fail where it strays from what that told.

        It may leave out what was said to depend on something, and do nothing that was not said.
        """
        dry = self.certsync(verb, *options, "--dry-run", "--json")
        assert dry.status == 0, dry.everything
        ended = self.certsync(verb, *options, "--json")
        steps = [Step(**each) for each in json.loads(dry.stdout)["steps"]]
        done = [Step(**each) for each in json.loads(ended.stdout)["done"]]
        strays = deviations(steps, {(each.host, each.what) for each in done})
        assert not strays, strays
        return ended

    def edit(self, before: str, after: str) -> None:
        """Change the fleet file, as a person with an editor."""
        text = self.fleet_file.read_text()
        assert before in text
        self.fleet_file.write_text(text.replace(before, after))

    # What runs on the issuer

    def on_issuer(self, *words: str, offset: str = "") -> Ended:
        """Run one of the issuer's commands there, with the clock of it alone moved by an offset.

        ``offset`` is libfaketime's: `+25h`. What the command starts has the real time again.
        """
        ended = self._on_issuer(*words, offset=offset)
        if UNFOUND in ended.everything and self.spare_the_ca_a_serial():
            ended = self._on_issuer(*words, offset=offset)
        return ended

    def _on_issuer(self, *words: str, offset: str) -> Ended:
        command = f"certsync {' '.join(words)}"
        if offset:
            command = (
                f"LD_PRELOAD=$(ls /usr/lib/*/faketime/libfaketime.so.1) FAKETIME='{offset}' "
                f"FAKETIME_DONT_FAKE_MONOTONIC=1 /opt/certsync/current/bin/python -c '{MOVED}' "
                f"{' '.join(words)}"
            )
        mark = "=== standard error ==="
        status, output = self.issuer.attempt(
            f"{command} 2>/tmp/stderr; status=$?; echo '{mark}'; cat /tmp/stderr; exit $status",
            timeout=300,
        )
        stdout, _, stderr = output.partition(f"{mark}\n")
        print(f"{self.issuer.name}$ certsync", *words, offset)
        print(output, f"exit {status}", sep="\n")
        return Ended(status, stdout, stderr)

    def renew(self, *options: str, offset: str = "") -> Ended:
        """Run the issuer's hourly run."""
        return self.on_issuer("renew", *options, offset=offset)

    def spare_the_ca_a_serial(self) -> bool:
        """Have the next order replace nothing where Pebble would not find what it replaces.

        One serial in 256 begins with a zero byte as RFC 9773 section 4.1 writes it. Pebble 2.10
        compares it with one written without, and answers with a server error, so the issuer is
        given the memory of tries that failed for it. True: that was so.
        """
        root = self.issuer.root
        store = Store(root / "etc/certsync", root / "var/lib/certsync")
        fleet = store.fleet()
        unfound = [each for each in fleet.lineages if self._is_unfound(each.name)]
        if not unfound:
            return False
        path = store.state_file
        data = json.loads(path.read_text())
        state = State.from_json(data)
        for each in unfound:
            key = request_key(look(store, fleet, each))
            tries = Tries(count=DROP_REPLACES_AFTER, request_key=key)
            known = replace(state.lineage(each.name), tries=tries)
            state = state.having(each.name, known)
        path.write_text(json.dumps({**data, **state.to_json()}))
        return True

    def _is_unfound(self, lineage: str) -> bool:
        live = self.issuer.root / "etc/certsync/live" / lineage
        if not live.is_symlink():
            return False
        chain = (live.parent / live.readlink() / "fullchain.pem").read_text()
        serial = parse_chain(chain).renewal_id.partition(".")[2]
        if base64.urlsafe_b64decode(serial + "==")[:1] != bytes(1):
            return False
        print("a serial that Pebble would not find:", lineage, serial)
        return True

    def memory(self) -> dict[str, Any]:
        """Return what the issuer remembers between runs."""
        text = (self.issuer.root / "var/lib/certsync/state.json").read_text()
        answer: dict[str, Any] = json.loads(text)
        return answer

    def generations(self) -> dict[str, str]:
        """Return the number that each backend's live link points to, by the backend's name."""
        return {machine.name: self.current(machine) for machine in self.backends}

    # What is seen from outside

    @property
    def backends(self) -> list[Machine]:
        """The lab's hosts that are backends of the fleet file."""
        named = re.findall(r"^\[backends\.(.+)\]$", self.fleet_file.read_text(), re.MULTILINE)
        return [machine for machine in self.lab.backends if machine.name in named]

    @property
    def issuer(self) -> Machine:
        """The host that orders."""
        named = re.search(r'^issuer = "(.+)"$', self.fleet_file.read_text(), re.MULTILINE)
        assert named is not None
        return self.lab.machine(named.group(1))

    @property
    def replicas(self) -> list[Machine]:
        """The other backends."""
        return [machine for machine in self.backends if machine.name != self.issuer.name]

    def leaf(self, address: str, name: str = NAME) -> x509.Certificate:
        """Return the certificate that is shown for a name at an address."""
        return x509.load_pem_x509_certificate(self.shown_by(address, name).encode())

    def shown_by(self, address: str, name: str = NAME) -> str:
        """Return the PEM of the leaf that openssl gets for a name; nothing: none is shown.

        An empty name: the client says none.
        """
        named = f"-servername {name}" if name else "-noservername"
        bracketed = f"[{address}]" if ":" in address else address
        done = self.operator(
            "sh", "-c",
            f"timeout 10 openssl s_client -connect {bracketed}:443 {named} < /dev/null "
            "| openssl x509",
        )  # fmt: skip
        return done.stdout

    def page(self) -> str:
        """Return the name of the backend whose test page comes through the balancer."""
        done = self.operator(
            "curl", "-sS", "--fail", "--max-time", "10", "--capath", "/dev/null",
            "--cacert", str(self.lab.ca.roots), f"https://{NAME}/lb.html",
        )  # fmt: skip
        found = re.search(r"backend-\d+", done.stdout)
        return found.group() if found else ""

    def pages(self, count: int = 6) -> set[str]:
        """Return the backends that answer so many requests."""
        return {self.page() for _ in range(count)}

    def current(self, machine: Machine) -> str:
        """Return the number of the generation that a backend's live link points to."""
        return (machine.root / LIVE.lstrip("/")).readlink().name

    def haproxy_cfg(self) -> str:
        """Return the balancer's configuration."""
        return (self.lab.balancer.root / "etc/haproxy/haproxy.cfg").read_text()

    def logged(self, machine: Machine, words: str) -> bool:
        """Return whether a host's journal has a line with these words."""
        return words in machine.sh("journalctl --no-pager -q -n 400")


def fleet_text(lab: Lab) -> str:
    """Return the fleet file of a lab, with three backends at the most, as the tests begin with."""
    text = (CHECKOUT / "inventory/lab.toml").read_text()
    text = text.replace("/run/certsync-lab/lab/", f"{lab.folder}/")
    if len(lab.backends) < 3:
        text = text[: text.index("[backends.backend-03]")]
    # A new member has its full share at once, so that a handful of requests shows who is in.
    text = text.replace("[site]\n", "[balancing]\nslow_start_seconds = 0\n\n[site]\n")
    return _with_balancers(text, lab)


def _with_balancers(text: str, lab: Lab) -> str:
    """Return a fleet file with all balancers of a lab, and the addresses that they share."""
    if len(lab.balancers) == 1:
        return text
    shared = json.dumps(lab.public)
    text = re.sub(r"(?m)^public_addresses = .*$", f"public_addresses = {shared}", text)
    further = "".join(
        f'[balancers.{machine.name}]\naddress = "{machine.address}"\n\n'
        for machine in lab.balancers[1:]
    )
    return text.replace(
        "[backends.backend-01]",
        f"{further}[balancer]\nvirtual_addresses = {shared}\n\n[backends.backend-01]",
    )


STATE = (
    "find /etc /srv /opt /var/lib/certsync /var/lib/certsync-push /var/lib/certsync-receive "
    "/var/lib/certsync-site /usr/local /var/lib/haproxy -xdev ! -type d "
    r"-exec stat -c '%n %a %U %Y' {} + -exec sha256sum {} + 2>/dev/null | sort; "
    "dpkg-query -W; ls -d /run/certsync* 2>/dev/null | grep -Ev '/certsync[.](work[.])?lock$'; "
    "systemctl show -p ActiveEnterTimestamp,ExecMainPID nginx haproxy 2>/dev/null"
)
"""What must be the same before and after a dry run."""


def state(lab: Lab) -> dict[str, str]:
    """Return all that a dry run must not change, host by host."""
    hosts = [*lab.balancers, *lab.backends]
    return {machine.name: machine.sh(STATE, timeout=60) for machine in hosts}
