#!/usr/bin/env python3
"""Measure the balancer's overhead, compared with a hand-written HAProxy and with no balancer.

usage: sudo .venv/bin/python bench/through.py [--seconds 1] [--repetitions 48] [--load kept]

Compared on a lab of real hosts, from the operator's machine with wrk:

- certsync: the balancer as certsync sets it up, with PROXY protocol and server names;
- bare: a second HAProxy on the same host, with the distribution's default settings and log, one
  TCP frontend for IPv4 and IPv6 (wrk prefers IPv6) and the same backends on port 443, as written
  from a guide;
- again: a third HAProxy with the bare one's configuration; the difference is the machine's noise;
- direct: the first backend's port 443, with no balancer.

They take turns, in all orders. All three HAProxy instances log each connection to the journal.

The loads: requests on kept connections, a new TLS connection for each request, and downloads of
20 MB. The table is printed on standard output. It needs Debian's package wrk.
"""

from __future__ import annotations

import argparse
import itertools
import math
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from lab import Lab  # noqa: E402  # found through the line above
from lab.suites import DEFAULT_SUITE, SUITES  # noqa: E402  # the same

NAME = "passthrough.example.com"
BARE_PORTS = {"bare": 4443, "again": 4444}
BARE = """\
global
    log /dev/log local0
    chroot /var/lib/haproxy
    user haproxy
    group haproxy
    daemon
defaults
    log global
    mode tcp
    option tcplog
    option dontlognull
    timeout connect 5000
    timeout client 50000
    timeout server 50000
frontend tls
    bind :{port}
    bind [::]:{port} v6only
    default_backend tls
backend tls
    balance roundrobin
{servers}
"""
UNITS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
CONTENDERS = ("certsync", "bare", "again", "direct")


@dataclass(frozen=True)
class Load:
    """A load to put on each contender."""

    name: str
    path: str
    connections: int
    headers: tuple[str, ...] = ()
    unit: str = "requests/s"


LOADS = (
    Load("kept connections", "/small.html", 48),
    Load("a new TLS connection each", "/small.html", 48, ("Connection: close",)),
    Load("downloads of 20 MB", "/large.bin", 4, (), "MB/s"),
)


@dataclass
class Rates:
    """One contender's rate under one load, in each turn."""

    found: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median rate."""
        return statistics.median(self.found)

    def to(self, other: Rates) -> tuple[float, float]:
        """Return the geometric mean of the ratios of each turn, and its standard error."""
        ratios = [a / b for a, b in zip(self.found, other.found, strict=True)]
        mean = statistics.geometric_mean(ratios)
        spread = statistics.stdev(map(math.log, ratios)) if len(ratios) > 1 else math.inf
        return mean, mean * spread / math.sqrt(len(ratios))


def tell(text: str) -> None:
    """Print progress on standard error."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


class Bench:
    """A fleet on a lab, with a second balancer beside ours."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        balancer, first = lab.balancer.address, lab.backends[0].address
        self.addresses = {
            "certsync": f"{balancer}:443",
            **{name: f"{balancer}:{port}" for name, port in BARE_PORTS.items()},
            "direct": f"{first}:443",
        }

    def deploy(self) -> None:
        """Deploy to all hosts, give them content to serve, and start the other balancers."""
        text = (CHECKOUT / "inventory/lab.toml").read_text()
        (self.folder / "lab.toml").write_text(
            text.replace("/run/certsync-lab/lab/", f"{self.lab.folder}/")
        )
        shutil.copy(CHECKOUT / "inventory/lab.py", self.folder)
        tell("deploying")
        fleet_file = str(self.folder / "lab.toml")
        self.operator(sys.executable, "-m", "certsync", "deploy", fleet_file)
        for machine in self.lab.backends:
            machine.sh(
                "systemctl stop cron; cd /var/www/html && echo small > small.html && "
                "head -c 20000000 /dev/urandom > large.bin"
            )
        servers = "\n".join(
            f"    server {each.name} {each.address}:443 check" for each in self.lab.backends
        )
        for name, port in BARE_PORTS.items():
            text = BARE.format(port=port, servers=servers)
            path = f"/etc/{name}.cfg"
            # As the distribution's unit does: a program started by a shell gets another share of
            # the CPU, and without the journal's socket in its chroot it logs nothing.
            start = (
                f"systemd-run -q --unit={name} --service-type=notify "
                "-p BindReadOnlyPaths=/dev/log:/var/lib/haproxy/dev/log "
                f"haproxy -Ws -f {path} -p /run/{name}.pid"
            )
            self.lab.balancer.sh(f"cat > {path} && {start}", input=text)
        # Wait until all balancers see their members up, and the slow start of ours is over.
        self.lab.balancer.sh("sleep 35")
        for name, unit in {"certsync": "haproxy", **{name: name for name in BARE_PORTS}}.items():
            self.rate(name, LOADS[0], 1)
            if "tls/backend-01" not in self.lab.balancer.sh(f"journalctl -q -n 48 -u {unit}"):
                raise SystemExit(f"error: {name} does not log its connections")

    def operator(self, *argv: str) -> str:
        """Run a command in the operator's namespace and return its output."""
        done = subprocess.run(
            [*self.lab.operator_argv(), *argv],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        if done.returncode != 0:
            raise SystemExit(f"error: {' '.join(argv[:3])}: {done.stdout}{done.stderr}")
        return done.stdout

    def rate(self, contender: str, load: Load, seconds: int) -> float:
        """Return a contender's rate under a load, in the load's unit."""
        output = self.operator(
            "wrk", "-t", "1", "-c", str(load.connections), "-d", f"{seconds}s", "--timeout", "20s",
            *(word for each in (f"Host: {NAME}", *load.headers) for word in ("-H", each)),
            f"https://{NAME}:{self.addresses[contender].rpartition(':')[2]}{load.path}"
            if contender != "direct" else f"https://{self.addresses[contender]}{load.path}",
        )  # fmt: skip
        if trouble := re.search(r"(Socket errors|Non-2xx).*", output):
            raise SystemExit(f"error: {contender}, {load.name}: {trouble.group()}")
        pattern = r"Requests/sec:\s*([\d.]+)()" if load.unit == "requests/s" else (
            r"Transfer/sec:\s*([\d.]+)([KMG]?)B"
        )  # fmt: skip
        found = re.search(pattern, output)
        if found is None:
            raise SystemExit(f"error: unexpected output of wrk: {output}")
        rate = float(found[1]) * UNITS[found[2]]
        return rate if load.unit == "requests/s" else rate / 1e6


def measured(
    rate: Callable[[str, Load, int], float], given: argparse.Namespace
) -> dict[str, dict[str, Rates]]:
    """Return each contender's rates under each load.

    They take turns in all orders: the contender after `direct` measures a few percent differently
    from the one before it.
    """
    orders = itertools.cycle(itertools.permutations(CONTENDERS))
    found = {load.name: {name: Rates() for name in CONTENDERS} for load in given.load}
    for load in given.load:
        for order in itertools.islice(orders, given.repetitions):
            for name in order:
                found[load.name][name].found.append(rate(name, load, given.seconds))
            latest = ", ".join(
                f"{key} {each.found[-1]:.0f}" for key, each in found[load.name].items()
            )
            tell(f"{load.name}: {latest} {load.unit}")
    return found


def table(found: dict[str, dict[str, Rates]]) -> str:
    """Return the table as Markdown: medians, and ratios with their errors."""
    rows = [
        "| load | certsync | bare HAProxy | direct | to bare | bare again to bare | to direct |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for load in LOADS:
        if load.name not in found:
            continue
        rates = found[load.name]
        cells = " | ".join(f"{rates[name].median:.0f}" for name in ("certsync", "bare", "direct"))
        ours, bare = rates["certsync"], rates["bare"]
        compared = (ours.to(bare), rates["again"].to(bare), ours.to(rates["direct"]))
        ratios = " | ".join(f"{mean:.3f} ± {error:.3f}" for mean, error in compared)
        rows.append(f"| {load.name}, {load.unit} | {cells} | {ratios} |")
    return "\n".join(rows)


def _loads(word: str) -> tuple[Load, ...]:
    found = tuple(load for load in LOADS if word in load.name.split())
    if not found:
        raise ValueError(word)
    return found


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=int, default=1, metavar="N", help="per turn")
    parser.add_argument("--repetitions", type=int, default=48, metavar="N")
    parser.add_argument("--load", type=_loads, default=LOADS, metavar="kept|new|downloads")
    parser.add_argument("--suite", choices=SUITES, default=DEFAULT_SUITE)
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.stderr.write("error: wrk is not installed\nhint: script/setup --bench\n")
        return 1
    lab = Lab("benchthrough", backends=3, suite=given.suite)
    with tempfile.TemporaryDirectory() as folder, lab:
        bench = Bench(lab, Path(folder))
        bench.deploy()
        found = measured(bench.rate, given)
    sys.stdout.write(f"{table(found)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
