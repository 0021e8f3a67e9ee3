#!/usr/bin/env python3
"""Measure a rollout, compared with plain rsync and with Ansible, on a lab of real hosts.

usage: sudo .venv/bin/python bench/rollout.py [--replicas 4,16,31] [--repetitions 5] [--ansible 1]

Compared in turns, after each order of a new certificate:

- certsync: `certsync replicate` on the issuer: ask, push, check, activate, reload, prove;
- plain: as root on the issuer, 16 at a time, rsync of the four PEM files, then a second SSH
  connection for `systemctl reload nginx`; no check and no proof;
- Ansible: a playbook that copies the four files and reloads nginx, with 16 forks and pipelining.

The table is printed on standard output. `script/setup --bench` installs Ansible.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from lab import Lab, Machine, cgroup  # noqa: E402  # found through the line above
from lab.suites import DEFAULT_SUITE, SUITES  # noqa: E402  # the same

NAME = "passthrough.example.com"
LIVE = f"/etc/certsync/live/{NAME}"
PEM_FILES = ("privkey.pem", "cert.pem", "chain.pem", "fullchain.pem")
AT_ONCE = 16
KEY_TYPES = ("ecdsa-p256", "ecdsa-p384")
ANSIBLE = CHECKOUT / ".venv-ansible/bin/ansible-playbook"
SETTLES = 0.7
"""Seconds after a run until nginx's old workers have ended: their time counts too."""

PLAIN = f"""\
#!/bin/sh
rsync -L {LIVE}/*.pem "root@$1:/root/plain/" && ssh "root@$1" systemctl reload nginx
"""

PLAYBOOK = """\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.copy: {src: "{{ source }}/{{ item }}", dest: /root/plain/, mode: "0600"}
      loop: [privkey.pem, cert.pem, chain.pem, fullchain.pem]
    - ansible.builtin.systemd_service: {name: nginx, state: reloaded}
"""

MEMORY = r"""
import glob, json, subprocess, time
own = largest = together = 0
run = subprocess.Popen(["certsync", "replicate"], stderr=subprocess.DEVNULL)
def kib(process, key):
    try:
        words = open(f"/proc/{process}/status").read().split()
    except OSError:
        return 0
    return int(words[words.index(key) + 1]) if key in words else 0
def below(process):
    try:
        found = open(f"/proc/{process}/task/{process}/children").read().split()
    except OSError:
        return []
    return [*found, *(each for one in found for each in below(one))]
while run.poll() is None:
    own = max(own, kib(run.pid, "VmHWM:"))
    sizes = [kib(each, "VmRSS:") for each in below(run.pid)]
    largest, together = max([largest, *sizes]), max(together, sum(sizes))
    time.sleep(0.05)
print(json.dumps([own, largest, together]))
"""


@dataclass
class Cost:
    """The costs of one contender's runs at one size."""

    wall: list[float] = field(default_factory=list)
    issuer: list[float] = field(default_factory=list)
    replicas: list[float] = field(default_factory=list)

    def median(self, what: str) -> float:
        """Return the median in seconds of `wall`, or of CPU time: `issuer`, `replicas`."""
        return statistics.median(getattr(self, what))


def tell(text: str) -> None:
    """Print progress on standard error."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


def processor_seconds(machines: Sequence[Machine]) -> float:
    """Return the CPU time that hosts have used since they booted."""
    tops = cgroup.hierarchies()
    groups = [top / cgroup.PARENT / each.group for top in tops for each in machines]
    # Control groups version 1 have a file for it, in nanoseconds; version 2 a line, in µs.
    first = [group / "cpuacct.usage" for group in groups]
    if files := [file for file in first if file.exists()]:
        return sum(int(file.read_text()) for file in files) / 1e9
    second = [group / "cpu.stat" for group in groups]
    return sum(int(file.read_text().split()[1]) for file in second if file.exists()) / 1e6


class Bench:
    """A fleet on a lab, and three ways to copy a certificate to its replicas."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.issuer, *self.replicas = lab.backends
        self.fleet_file = self.issuer.root / "etc/certsync/fleet.json"
        self.all_backends: list[object] = []

    # The fleet

    def deploy(self) -> None:
        """Deploy to all hosts, and give the issuer's root access to them for the other two ways."""
        text = (CHECKOUT / "inventory/lab.toml").read_text()
        text = text[: text.index("[backends.")]
        text = text.replace("/run/certsync-lab/lab/", f"{self.lab.folder}/")
        for machine in self.lab.backends:
            text += f'[backends.{machine.name}]\naddress = "{machine.address}"\n\n'
        (self.folder / "lab.toml").write_text(text)
        shutil.copy(CHECKOUT / "inventory/lab.py", self.folder)
        tell(f"deploying to {len(self.lab.backends)} backends")
        self.operator([sys.executable, "-m", "certsync", "deploy", str(self.folder / "lab.toml")])
        self._let_root_in()
        self.issuer.sh("systemctl stop cron; certsync issue && certsync replicate")
        self.all_backends = json.loads(self.fleet_file.read_text())["backends"]

    def _let_root_in(self) -> None:
        key = self.issuer.root / "root/.ssh/id_ed25519"
        self.issuer.sh("mkdir -p -m 700 /root/.ssh; ssh-keygen -q -t ed25519 -N '' "
                       "-f /root/.ssh/id_ed25519")  # fmt: skip
        shutil.copy(key, self.folder / "key")
        public = key.with_suffix(".pub").read_text()
        for machine in self.replicas:
            machine.sh("mkdir -p -m 700 /root/.ssh /root/plain; cat > /root/.ssh/authorized_keys",
                       input=public)  # fmt: skip
        addresses = " ".join(machine.address for machine in self.replicas)
        self.issuer.sh(f"ssh-keyscan {addresses} 2> /dev/null > /root/.ssh/known_hosts")
        shutil.copy(key.parent / "known_hosts", self.folder)
        program = self.issuer.root / "root/plain"
        program.write_text(PLAIN)
        program.chmod(0o755)
        (self.folder / "playbook.yml").write_text(PLAYBOOK)

    def operator(self, argv: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the operator's namespace."""
        return subprocess.run(
            [*self.lab.operator_argv(), *argv],
            cwd=CHECKOUT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )

    def cut_to(self, replicas: int) -> None:
        """Limit the fleet to so many replicas."""
        data = json.loads(self.fleet_file.read_text())
        data["backends"] = self.all_backends[: replicas + 1]
        self.fleet_file.write_text(json.dumps(data))

    def order(self) -> None:
        """Order the next generation, with the other key type."""
        data = json.loads(self.fleet_file.read_text())
        lineage = data["lineages"][0]
        lineage["key_type"] = KEY_TYPES[lineage["key_type"] == KEY_TYPES[0]]
        self.fleet_file.write_text(json.dumps(data))
        # Now and then the test CA fails an order; the next one succeeds.
        if self.issuer.attempt("certsync issue")[0] != 0:
            self.issuer.sh("certsync issue")

    # The three ways

    def certsync(self, _count: int) -> None:
        """Roll out as certsync does."""
        self.issuer.sh("certsync replicate")

    def plain(self, count: int) -> None:
        """Copy and reload with two connections per host."""
        addresses = shlex.join(machine.address for machine in self.replicas[:count])
        self.issuer.sh(f"printf '%s\\n' {addresses} | xargs -P{AT_ONCE} -n1 /root/plain")

    def ansible(self, count: int) -> None:
        """Copy and reload with a playbook; closing its connections is not counted."""
        source, sockets = self.folder / "source", Path(tempfile.mkdtemp(dir=self.folder))
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        link = self.issuer.root / LIVE.lstrip("/")
        live = link.parent / link.readlink()
        for name in PEM_FILES:
            shutil.copy(live / name, source)
        variables = (
            f"ansible_user=root ansible_ssh_private_key_file={self.folder / 'key'} "
            f"ansible_ssh_common_args='-o UserKnownHostsFile={self.folder / 'known_hosts'}' "
            "ansible_python_interpreter=/usr/bin/python3"
        )
        lines = [f"{machine.address} {variables}\n" for machine in self.replicas[:count]]
        (self.folder / "hosts").write_text("".join(lines))
        done = self.operator(
            [str(ANSIBLE), "-i", str(self.folder / "hosts"), "-f", str(AT_ONCE),
             "-e", f"source={source}", str(self.folder / "playbook.yml")],
            ANSIBLE_PIPELINING="1", ANSIBLE_SSH_CONTROL_PATH_DIR=str(sockets),
            ANSIBLE_LOCALHOST_WARNING="0",
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"Ansible failed: {(done.stdout + done.stderr)[-2000:]}")

    # Measuring

    def measure(self, way: Callable[[int], None], count: int, cost: Cost) -> None:
        """Roll out to so many replicas in one way, and record the cost."""
        replicas = self.replicas[:count]
        before = processor_seconds([self.issuer]), processor_seconds(replicas)
        begin = time.monotonic()
        way(count)
        cost.wall.append(time.monotonic() - begin)
        time.sleep(SETTLES)
        cost.issuer.append(processor_seconds([self.issuer]) - before[0])
        cost.replicas.append(processor_seconds(replicas) - before[1])
        tell(f"{count} replicas, {way.__name__}: {cost.wall[-1]:.2f} s")

    def memory(self) -> list[float]:
        """Return a rollout's peak MiB: the issuer's process, its largest child, all children."""
        self.order()
        program = self.issuer.root / "root/memory.py"
        program.write_text(MEMORY)
        sizes: list[int] = json.loads(self.issuer.sh("python3 /root/memory.py").splitlines()[-1])
        return [kib / 1024 for kib in sizes]


def table(found: dict[int, dict[str, Cost]]) -> str:
    """Return the Markdown table: wall time, ratios, and CPU time per replica."""
    rows = [
        "| replicas | certsync | plain | Ansible | to plain | to Ansible | certsync | plain |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for count, costs in found.items():
        ours, plain, ansible = (costs[name] for name in ("certsync", "plain", "ansible"))
        wall, other = ours.median("wall"), plain.median("wall")
        third = ansible.median("wall") if ansible.wall else None
        parts = [
            f"{1000 * each.median('issuer') / count:.0f} + "
            f"{1000 * each.median('replicas') / count:.0f}"
            for each in (ours, plain)
        ]
        rows.append(
            f"| {count} | {wall:.2f} s | {other:.2f} s | {f'{third:.0f} s' if third else '-'} "
            f"| {wall / other:.2f} | {f'{wall / third:.3f}' if third else '-'} "
            f"| {parts[0]} | {parts[1]} |"
        )
    return "\n".join(rows)


def measured(bench: Bench, given: argparse.Namespace) -> dict[int, dict[str, Cost]]:
    """Return each way's cost at each size; the ways take turns."""
    found = {}
    for count in given.replicas:
        bench.cut_to(count)
        costs = {name: Cost() for name in ("certsync", "plain", "ansible")}
        for repetition in range(given.repetitions):
            bench.order()
            bench.measure(bench.certsync, count, costs["certsync"])
            bench.measure(bench.plain, count, costs["plain"])
            if repetition < given.ansible:
                bench.measure(bench.ansible, count, costs["ansible"])
        found[count] = costs
    return found


def _numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--replicas", default=[4, 16, 31], metavar="N,N", type=_numbers)
    parser.add_argument("--repetitions", type=int, default=5, metavar="N")
    parser.add_argument(
        "--ansible", type=int, default=1, metavar="N", help="repetitions of Ansible"
    )
    parser.add_argument("--suite", choices=SUITES, default=DEFAULT_SUITE)
    given = parser.parse_args()
    if given.ansible and not ANSIBLE.exists():
        sys.stderr.write("error: Ansible is not installed\nhint: script/setup --bench\n")
        return 1
    lab = Lab("bench", backends=max(given.replicas) + 1, suite=given.suite)
    with tempfile.TemporaryDirectory() as folder, lab:
        bench = Bench(lab, Path(folder))
        bench.deploy()
        found = measured(bench, given)
        own, largest, together = bench.memory()
    sys.stdout.write(
        f"{table(found)}\n\nPeak memory of `certsync replicate` with {max(found)} replicas: "
        f"{own:.0f} MiB; its largest child {largest:.0f} MiB, all children at once, shared pages "
        f"counted in each, {together:.0f} MiB.\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
