#!/usr/bin/env python3
"""Measure deploys, in commands and in time, compared with Ansible, on a lab of real hosts.

usage: sudo .venv/bin/python bench/deploy.py [--backends 3,16,40] [--repetitions 3] [--ansible 1]
                                             [--rows first,second,...] [--commands]

On a new lab for each number of backends:

- first: a deploy to empty hosts, with the packages already on their disks;
- second: a deploy with nothing to change, in turns with
- ansible: a playbook that ensures the same packages, users, folders, files, links and services,
  read from the deployed hosts; as the same user, with 16 forks and pipelining, without facts;
- far: a second deploy with a round-trip time of 100 ms to every host;
- one: the same with 200 ms and 5 % frame loss for one replica;
- check: `certsync check --online`; local: `certsync --help` and `certsync check`, no network;
- add: `certsync add-backend` of an empty host.

Commands are sudo's lines in the hosts' journals; for replicas and balancers, those of the host with
the most. The table is printed on standard output, with the targets in parentheses.
`script/setup --bench` installs Ansible.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from lab import Lab, Machine  # noqa: E402  # found through the line above
from lab.machine import USER  # noqa: E402  # the same
from lab.suites import DEFAULT_SUITE, SUITES  # noqa: E402  # the same
from tests.e2e import managed  # noqa: E402  # the same

ANSIBLE = CHECKOUT / ".venv-ansible/bin/ansible-playbook"
PLAYBOOK = CHECKOUT / "bench/deploy.yml"
FORKS = 16
LONGEST = 3600
LOCAL_RUNS = 5
WIDTH = 120
"""Characters of a listed command."""

BAD_MS, BAD_LOSS = 200, 0.05
"""Round-trip time, and probability of losing a frame."""

KINDS = ("first", "second", "ansible", "far", "one", "check", "local", "add")
ANY = 0
"""In a row's targets: for any number of backends."""

PHASE = re.compile(r"\d+ of \d+: .*")
COMMAND = re.compile(r"\s*(?P<user>\S+) : .*?COMMAND=(?P<text>.*)", re.DOTALL)
CONTINUED = "(command continued) "
"""Starts sudo's further lines about a long command."""

MARKS = re.compile(r".*?>&2 && \(?\s*|(#012)?\); status=\$\?.*", re.DOTALL)
"""The frame around every command of certsync's, left out of lists."""

OURS = "/usr/bin/journalctl"
"""The start of this program's own commands; no command of a deploy starts like that."""

PACKAGES = (
    "ca-certificates cron haproxy nginx openssh-client openssl python3 python3-venv rsync socat "
    "sudo"
)
FOLDERS = (
    "/etc/certsync /etc/systemd/system/haproxy.service.d /run/certsync-receive/tickets "
    "/usr/local/lib/certsync /var/lib/certsync /var/lib/certsync/webroot "
    "/var/lib/certsync/webroot/.well-known /var/lib/certsync/webroot/.well-known/acme-challenge "
    "/var/lib/certsync-push /var/lib/certsync-receive /var/lib/certsync-receive/.ssh "
    "/var/lib/certsync-receive/inbox /var/lib/certsync-site"
)
LINKS = "/etc/nginx/sites-enabled/* /opt/certsync/current /usr/local/bin/certsync"
RUNNING = ("nginx", "haproxy")
ENABLED = ("certsync-verify", "certsync-tickets")


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    key: str
    title: str
    unit: str = "s"
    aims: Mapping[int, float] = field(default_factory=dict)
    """By number of backends."""

    def cell(self, size: int, values: Mapping[str, float]) -> str:
        """Return a value for the table, with its target."""
        if self.key not in values:
            return "-"
        aim = self.aims.get(size, self.aims.get(ANY))
        return self._text(values[self.key]) + (f" ({self._text(aim)})" if aim is not None else "")

    def _text(self, value: float) -> str:
        if self.unit == "s":
            return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
        return f"{value:.3f}" if self.unit == "ratio" else f"{value:.0f}"


ROWS = (
    Row("second replica", "commands, second deploy: a replica", "", {ANY: 4}),
    Row("second issuer", "the issuer", "", {ANY: 8}),
    Row("second balancer", "the balancer", "", {ANY: 4}),
    Row("first replica", "commands, first deploy: a replica", "", {ANY: 15}),
    Row("first issuer", "the issuer", "", {ANY: 25}),
    Row("first balancer", "the balancer", "", {ANY: 12}),
    Row("second", "second deploy", "s", {40: 12}),
    Row("ansible", "Ansible"),
    Row("ratio", "second deploy to Ansible", "ratio", {3: 0.1}),
    Row("far", "second deploy, every host far away", "s", {3: 5}),
    Row("one", "second deploy, one replica on a bad line"),
    Row("first", "first deploy", "s", {3: 25, 40: 120}),
    Row("check", "`certsync check --online`", "s", {40: 6}),
    Row("add", "`certsync add-backend`, an empty host", "s", {ANY: 10}),
    Row("help", "`certsync --help`", "s", {ANY: 0.25}),
    Row("offline", "`certsync check`", "s", {ANY: 0.5}),
)


@dataclass(frozen=True)
class Command:
    """A command in a host's journal."""

    moment: float
    user: str
    text: str


@dataclass(frozen=True)
class Ran:
    """A successful command of the operator's."""

    seconds: float
    phases: tuple[tuple[float, str], ...]
    """When each phase began, and its title."""


def tell(text: str) -> None:
    """Print progress on standard error."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


class Journals:
    """The commands that hosts run through sudo from now on."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        self.machines = machines
        with ThreadPoolExecutor(FORKS) as pool:
            cursors = list(pool.map(self._cursor, machines))
        self.cursors = dict(zip([each.name for each in machines], cursors, strict=True))

    def commands(self) -> dict[str, list[Command]]:
        """Return the commands since then, by host."""
        with ThreadPoolExecutor(FORKS) as pool:
            found = list(pool.map(self._read_journal, self.machines))
        return dict(zip([each.name for each in self.machines], found, strict=True))

    def _cursor(self, machine: Machine) -> str:
        _ask(machine, "--sync")
        output = _ask(machine, "-q", "-n", "0", "--show-cursor")
        return output.partition("-- cursor: ")[2].strip()

    def _read_journal(self, machine: Machine) -> list[Command]:
        _ask(machine, "--sync")
        after = f"--after-cursor={self.cursors[machine.name]}"
        output = _ask(machine, "-q", "-a", "-t", "sudo", "-o", "json", after)
        return read(json.loads(line) for line in output.splitlines())


def _ask(machine: Machine, *words: str) -> str:
    argv = [*machine.ssh_argv(), f"sudo {OURS} {shlex.join(words)}"]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120).stdout


def read(entries: Iterable[Mapping[str, Any]]) -> list[Command]:
    """Return the commands in a journal's entries."""
    found: list[Command] = []
    for entry in entries:
        message = str(entry.get("MESSAGE", ""))
        _, continued, rest = message.partition(CONTINUED)
        if continued and found:
            found[-1] = replace(found[-1], text=found[-1].text + rest)
        elif begun := COMMAND.match(message):
            moment = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
            found.append(Command(moment, begun["user"], begun["text"]))
    return [each for each in found if not each.text.startswith(OURS)]


class Bench:
    """A fleet on a lab, and one more, empty host."""

    def __init__(self, lab: Lab, folder: Path, size: int) -> None:
        self.lab, self.folder, self.size = lab, folder, size
        *self.backends, self.further = lab.backends
        self.issuer, *self.replicas = self.backends
        self.hosts = [*lab.balancers, *self.backends]
        self.fleet_file = folder / "lab.toml"
        self.values: dict[str, float] = {}
        self.listing = ""

    def prepare(self) -> None:
        """Write the fleet file, and stop hourly runs."""
        text = (CHECKOUT / "inventory/lab.toml").read_text()
        text = text[: text.index("[backends.")]
        text = text.replace("/run/certsync-lab/lab/", f"{self.lab.folder}/")
        for machine in self.backends:
            text += f'[backends.{machine.name}]\naddress = "{machine.address}"\n\n'
        self.fleet_file.write_text(text)
        shutil.copy(CHECKOUT / "inventory/lab.py", self.folder)
        for machine in self.lab.backends:
            machine.sh("systemctl mask -q --now cron")

    def certsync(self, *words: str) -> Ran:
        """Run one of the operator's commands."""
        argv = [*self.lab.operator_argv(), sys.executable, "-m", "certsync", *words]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        begin, phases, output = time.monotonic(), [], []
        with (
            tempfile.TemporaryFile("w+") as result,
            subprocess.Popen(
                argv, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=result,
                stderr=subprocess.PIPE, text=True, env={**os.environ, "PATH": path},
            ) as child,
        ):  # fmt: skip
            assert child.stderr is not None
            for line in child.stderr:
                output.append(line)
                if PHASE.match(line):
                    phases.append((time.time(), line.strip()))
            status = child.wait(timeout=LONGEST)
            seconds = time.monotonic() - begin
            if status != 0:
                result.seek(0)
                printed = "".join([*output[-20:], result.read()[-2000:]])
                raise SystemExit(f"error: certsync {words[0]} ended with {status}: {printed}")
        tell(f"{self.size} backends, certsync {' '.join(words[:1])}: {seconds:.2f} s")
        return Ran(seconds, tuple(phases))

    def deploy(self) -> Ran:
        """Deploy the fleet."""
        return self.certsync("deploy", str(self.fleet_file))

    # Measuring

    def counted(self, which: str) -> None:
        """Deploy, and record its time and the number of commands for each role."""
        journals = Journals(self.hosts)
        ran = self.deploy()
        commands = journals.commands()
        self.values[which] = ran.seconds
        roles = {
            "replica": self.replicas, "issuer": [self.issuer], "balancer": self.lab.balancers,
        }  # fmt: skip
        listed = [f"{which} deploy, {self.size} backends"]
        for role, machines in roles.items():
            most = max(machines, key=lambda each: len(commands[each.name]))
            self.values[f"{which} {role}"] = len(commands[most.name])
            listed.append(listing(f"{role} ({most.name})", commands[most.name], ran.phases))
        self.listing = "\n\n".join(listed)

    def median(self, key: str, runs: Sequence[float]) -> None:
        """Record the median of some runs, if there are any."""
        if runs:
            self.values[key] = statistics.median(runs)

    def second(self, repetitions: int, ansible: int) -> None:
        """Run second deploys and the playbook in turns."""
        ours, theirs = [], []
        self.counted("second")
        if ansible:
            self.write_inventory()
        for repetition in range(repetitions):
            ours.append(self.deploy().seconds)
            if repetition < ansible:
                theirs.append(self.ansible())
        self.median("second", ours)
        self.median("ansible", theirs)
        if theirs:
            self.values["ratio"] = self.values["second"] / self.values["ansible"]

    def far(self, repetitions: int, delay: float) -> None:
        """Run second deploys while every host is far away."""
        with ExitStack() as cables:
            for machine in self.hosts:
                cables.enter_context(machine.slow(delay_ms=delay))
            tell(f"{self.size} backends, every host {delay:g} ms away")
            self.median("far", [self.deploy().seconds for _ in range(repetitions)])

    def one(self, repetitions: int) -> None:
        """Run second deploys while one replica has a bad line."""
        with self.replicas[-1].slow(delay_ms=BAD_MS, loss=BAD_LOSS):
            tell(f"{self.size} backends, {self.replicas[-1].name} on a bad line")
            self.median("one", [self.deploy().seconds for _ in range(repetitions)])

    def check(self, repetitions: int) -> None:
        """Check all hosts online."""
        words = ("check", str(self.fleet_file), "--online")
        self.median("check", [self.certsync(*words).seconds for _ in range(repetitions)])

    def local(self) -> None:
        """Run commands that use no host; the first run, which may compile, does not count."""
        for key, words in {"help": ("--help",), "offline": ("check", str(self.fleet_file))}.items():
            runs = [self.certsync(*words).seconds for _ in range(1 + LOCAL_RUNS)]
            self.median(key, runs[1:])

    def add(self) -> None:
        """Add the empty host to the fleet."""
        words = ("add-backend", str(self.fleet_file), self.further.name, self.further.address)
        self.values["add"] = self.certsync(*words).seconds

    # Ansible

    def ansible(self) -> float:
        """Return the seconds that the playbook takes, with new connections."""
        sockets = tempfile.mkdtemp(dir=self.folder)
        argv = [str(ANSIBLE), "-i", str(self.folder / "hosts.json"), "-f", str(FORKS)]
        environment = {
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets,
            "ANSIBLE_LOCALHOST_WARNING": "0",
        }
        begin = time.monotonic()
        done = subprocess.run(
            [*self.lab.operator_argv(), *argv, str(PLAYBOOK)], cwd=CHECKOUT, capture_output=True,
            text=True, check=False, timeout=LONGEST, env={**os.environ, **environment},
        )  # fmt: skip
        seconds = time.monotonic() - begin
        recap = re.findall(r"ok=\d+ +changed=(\d+)", done.stdout)
        if done.returncode != 0 or recap != ["0"] * len(self.hosts):
            raise SystemExit(f"error: Ansible: {(done.stdout + done.stderr)[-3000:]}")
        tell(f"{self.size} backends, Ansible: {seconds:.2f} s")
        return seconds

    def write_inventory(self) -> None:
        """Write Ansible's inventory, with the state of the hosts as its variables."""
        with ThreadPoolExecutor(FORKS) as pool:
            variables = list(pool.map(self._variables, self.hosts))
        common = {
            "ansible_user": USER,
            "ansible_ssh_private_key_file": str(self.lab.folder / "id_ed25519"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.lab.folder / 'known_hosts'}",
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        names = [machine.name for machine in self.hosts]
        hosts = dict(zip(names, variables, strict=True))
        inventory = {"all": {"hosts": hosts, "vars": common}}
        (self.folder / "hosts.json").write_text(json.dumps(inventory))

    def _variables(self, machine: Machine) -> dict[str, Any]:
        texts = managed.texts(machine)
        source = self.folder / "source" / machine.name
        for path, text in texts.items():
            (source / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            (source / path[1:]).write_bytes(text)
        units = machine.sh(
            f"for unit in {' '.join((*RUNNING, *ENABLED))}; do "
            "systemctl is-enabled -q $unit 2>/dev/null && echo $unit; done; :"
        )
        people = machine.sh("getent passwd | grep ^certsync- || :").splitlines()
        users = [line.split(":") for line in people]
        show = (
            f"dpkg-query -W -f '${{Package}}|${{db:Status-Status}}\\n' {PACKAGES} 2>/dev/null || :"
        )
        packages = [line.split("|") for line in machine.sh(show).splitlines()]
        links = machine.sh(f"for at in {LINKS}; do test -L $at && "
                           "echo $at $(readlink $at); done; :")  # fmt: skip
        return {
            "ansible_host": machine.address,
            "source": str(source),
            "packages": [name for name, status in packages if status == "installed"],
            "users": [{"name": each[0], "home": each[5], "shell": each[6]} for each in users],
            "folders": _owned(machine, FOLDERS.split()),
            "files": _owned(machine, sorted(texts)),
            "links": [dict(zip(("path", "target"), line.split(), strict=True))
                      for line in links.splitlines()],
            "running": [unit for unit in RUNNING if unit in units.split()],
            "enabled": [unit for unit in ENABLED if unit in units.split()],
        }  # fmt: skip


def _owned(machine: Machine, paths: Sequence[str]) -> list[dict[str, str]]:
    """Return the paths that exist, with mode and owners."""
    output = machine.sh(f"stat -c '%n|0%a|%U|%G' {shlex.join(paths)} 2>/dev/null || :")
    keys = ("path", "mode", "owner", "group")
    return [dict(zip(keys, line.split("|"), strict=True)) for line in output.splitlines()]


def listing(title: str, commands: Sequence[Command], phases: Sequence[tuple[float, str]]) -> str:
    """Return a host's commands as a list, by phase."""
    lines = [f"{title}: {len(commands)}"]
    heading = ""
    for each in commands:
        begun = [words for moment, words in phases if moment <= each.moment]
        phase = begun[-1] if begun else "before the first phase"
        if phase != heading:
            heading = phase
            lines.append(f"  {phase}")
        words = MARKS.sub("", each.text).replace("\\", "").replace("#012", " ").split()
        lines.append(f"    {each.user}: {' '.join(words)[:WIDTH]}")
    return "\n".join(lines)


def table(found: Mapping[int, Mapping[str, float]]) -> str:
    """Return the Markdown table: a column for each number of backends."""
    heads = " | ".join(f"{size} backends" for size in found)
    lines = [f"| | {heads} |", f"|---|{'--:|' * len(found)}"]
    for row in ROWS:
        cells = [row.cell(size, values) for size, values in found.items()]
        if any(cell != "-" for cell in cells):
            lines.append(f"| {row.title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def measured(bench: Bench, given: argparse.Namespace) -> None:
    """Measure the chosen rows on one fleet."""
    bench.prepare()
    bench.counted("first")
    if "second" in given.rows:
        ansible = given.ansible if "ansible" in given.rows else 0
        bench.second(given.repetitions, ansible)
    if "far" in given.rows:
        bench.far(given.repetitions, given.delay)
    if "one" in given.rows:
        bench.one(given.repetitions)
    if "check" in given.rows:
        bench.check(given.repetitions)
    if "local" in given.rows:
        bench.local()
    if "add" in given.rows:
        bench.add()


def _numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(text.split(","))
    if unknown := {*kinds} - {*KINDS}:
        raise argparse.ArgumentTypeError(f"unknown row {', '.join(unknown)}: {', '.join(KINDS)}")
    return kinds


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--backends", default=[3, 16, 40], metavar="N,N", type=_numbers)
    parser.add_argument("--repetitions", type=int, default=3, metavar="N")
    parser.add_argument(
        "--ansible", type=int, default=1, metavar="N", help="repetitions of Ansible"
    )
    parser.add_argument("--rows", type=_kinds, default=KINDS, metavar=",".join(KINDS))
    parser.add_argument("--delay", type=float, default=100, metavar="MS", help="round-trip time")
    parser.add_argument("--commands", action="store_true", help="list a second deploy's commands")
    parser.add_argument("--suite", choices=SUITES, default=DEFAULT_SUITE)
    given = parser.parse_args()
    if given.ansible and "ansible" in given.rows and not ANSIBLE.exists():
        sys.stderr.write("error: Ansible is not installed\nhint: script/setup --bench\n")
        return 1
    found, listings = {}, []
    for size in given.backends:
        lab = Lab("benchdeploy", backends=size + 1, suite=given.suite)
        with tempfile.TemporaryDirectory() as folder, lab:
            bench = Bench(lab, Path(folder), size)
            measured(bench, given)
            found[size] = bench.values
            listings.append(bench.listing)
        # Print the results so far, in case a larger fleet fails.
        tell(f"so far:\n{table(found)}")
    parts = [table(found), *(listings if given.commands else [])]
    sys.stdout.write("\n\n".join(parts) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
