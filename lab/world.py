"""A whole lab: balancers, backends, a CA host and the operator's namespace."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from lab import cgroup, needs, network
from lab.ca import CertificateAuthority
from lab.errors import LabError
from lab.image import image, image_path, pebble
from lab.machine import EXPORTS, Machine
from lab.shell import attempt, run, say
from lab.snapshot import keep_layer
from lab.suites import DEFAULT_SUITE

RUN = Path("/run/certsync-lab")
CHECKOUT = Path(__file__).resolve().parent.parent
BALANCER_NUMBER = 10
MOST_BACKENDS = 50
FURTHER_BALANCERS = 70
"""Added to the index: balancer-02 has the number 72."""

MOST_BALANCERS = 9
VIRTUAL = (f"{network.IPV4}100", f"{network.IPV6}100")
"""Addresses, v4 and v6, that no host has as its own."""

INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
"""Sixteen hosts use up Linux's default of 128, and then the next host's init dies."""

MANY = 1024


class Lab:
    """A lab by name. As a context manager it is up inside the block and always removed after it.

    ``disks`` is a snapshot made by `keep_disks`: the hosts in it start from there.
    """

    def __init__(
        self,
        name: str = "lab",
        *,
        backends: int = 3,
        balancers: int = 1,
        suite: str = DEFAULT_SUITE,
        disks: Path | None = None,
    ) -> None:
        if not name.isalnum() or len(name) > 12:
            raise LabError(f"bad name for a lab: {name!r}", "use at most 12 letters and digits")
        if not 1 <= backends <= MOST_BACKENDS:
            raise LabError(f"{backends} backends", f"a lab has 1 to {MOST_BACKENDS}")
        if not 1 <= balancers <= MOST_BALANCERS:
            raise LabError(f"{balancers} balancers", f"a lab has 1 to {MOST_BALANCERS}")
        self.name = name
        self.suite = suite
        self.disks = disks
        self.folder = RUN / name
        self.backend_count = backends
        self.balancer_count = balancers
        self._reaper: subprocess.Popen[bytes] | None = None

    def _machine(self, name: str, number: int) -> Machine:
        prepared = self.disks / name if self.disks else None
        if prepared is not None and not prepared.is_dir():
            prepared = None
        return Machine(self.name, name, number, self.folder, image_path(self.suite), prepared)

    @property
    def balancer(self) -> Machine:
        """The host that HAProxy is deployed to; the first one if there are several."""
        return self._machine("balancer", BALANCER_NUMBER)

    @property
    def balancers(self) -> list[Machine]:
        """All hosts that HAProxy is deployed to: balancer, balancer-02 and so on."""
        further = range(2, self.balancer_count + 1)
        return [
            self.balancer,
            *(
                self._machine(f"balancer-{index:02}", FURTHER_BALANCERS + index)
                for index in further
            ),
        ]

    @property
    def public(self) -> tuple[str, str]:
        """The addresses, v4 and v6, that DNS gives: virtual ones with several balancers."""
        if self.balancer_count > 1:
            return VIRTUAL
        return self.balancer.address, self.balancer.address6

    @property
    def backends(self) -> list[Machine]:
        """The hosts that nginx is deployed to, backend-01 first."""
        return [
            self._machine(f"backend-{index:02}", BALANCER_NUMBER + index)
            for index in range(1, self.backend_count + 1)
        ]

    @property
    def ca(self) -> CertificateAuthority:
        """The CA host."""
        return CertificateAuthority(self._machine("ca", network.CA), self.public)

    @property
    def machines(self) -> list[Machine]:
        """All hosts."""
        return [self.ca.machine, *self.balancers, *self.backends]

    def machine(self, name: str) -> Machine:
        """Return a host by its name.

        Raises:
            LabError: it does not exist.
        """
        for machine in self.machines:
            if machine.name == name:
                return machine
        names = ", ".join(machine.name for machine in self.machines)
        raise LabError(f"no host {name!r} in this lab", f"its hosts are: operator, {names}")

    def operator_argv(self) -> list[str]:
        """Return what to put before a command to run it as the operator."""
        return ["ip", "netns", "exec", network.namespace(self.name, "operator")]

    # Up and down

    def up(self) -> None:
        """Bring the lab up, unless it is already up.

        Raises:
            LabError: not root, a tool is missing, or another checkout has a lab of this name.
        """
        needs.require()
        root, programs = image(self.suite), pebble()
        with self._lock():
            if self._is_up(root):
                say(f"lab {self.name} is already up")
                return
            self._sweep()
            try:
                self._build(programs)
            except BaseException:
                self._sweep()
                raise

    def down(self) -> None:
        """Take the lab down and remove every trace of it. It need not exist."""
        needs.require()
        with self._lock():
            self._sweep()

    def keep_disks(self, folder: Path) -> None:
        """Shut down all hosts except the CA's, and save their disks in ``folder``."""
        hosts = [*self.balancers, *self.backends]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(Machine.power_off, hosts))
        for machine in hosts:
            keep_layer(machine.layer, folder / machine.name)

    def belongs_here(self) -> bool:
        """Return whether no other checkout has brought this lab up."""
        facts = self.folder / "lab.json"
        return not facts.exists() or json.loads(facts.read_text())["checkout"] == str(CHECKOUT)

    def __enter__(self) -> Lab:
        needs.require()
        image(self.suite)
        # Takes the lab down however this process ends, even by SIGKILL.
        self._reaper = subprocess.Popen(
            [sys.executable, "-m", "lab.reaper", self.name],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self.up()
        except BaseException:
            # `up` cleans up after itself, and what remains may be another checkout's.
            self._reaper.kill()
            self._release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()
        self._release()

    def _release(self) -> None:
        if self._reaper is not None and self._reaper.stdin is not None:
            self._reaper.stdin.close()
            self._reaper.wait()
            self._reaper = None

    @classmethod
    def standing(cls, name: str = "lab") -> Lab:
        """Return the running lab of this name.

        Raises:
            LabError: it is not up.
        """
        try:
            facts = json.loads((RUN / name / "lab.json").read_text())
        except FileNotFoundError:
            raise LabError(f"lab {name} is not up", "lab/lab up") from None
        return cls(
            name,
            backends=facts["backends"],
            balancers=facts["balancers"],
            suite=facts["suite"],
        )

    @contextmanager
    def _lock(self) -> Iterator[None]:
        RUN.mkdir(parents=True, exist_ok=True)
        with (RUN / f"{self.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"waiting for another process that is changing lab {self.name}")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _is_up(self, root: Path) -> bool:
        path = self.folder / "lab.json"
        if not path.exists():
            return False
        facts = json.loads(path.read_text())
        # Any running host counts: a lab of another size, or from another checkout, may lack some.
        groups = cgroup.names(f"{self.name}.")
        if not any(cgroup.processes(group) for group in groups):
            return False
        if facts["checkout"] != str(CHECKOUT):
            raise LabError(
                f"lab {self.name} is up and belongs to the checkout {facts['checkout']}",
                "take it down there with `lab/lab down`, or use another name with --name",
            )
        if facts != self._facts(root):
            raise LabError(
                f"lab {self.name} is up with {facts['backends']} backends on {facts['suite']}",
                "lab/lab down, then up again",
            )
        return all(machine.running() for machine in self.machines)

    def _facts(self, root: Path) -> dict[str, object]:
        return {
            "checkout": str(CHECKOUT),
            "backends": self.backend_count,
            "balancers": self.balancer_count,
            "suite": self.suite,
            "image": str(root),
            "disks": str(self.disks or ""),
        }

    def _build(self, programs: Path) -> None:
        say(f"booting {len(self.machines)} hosts of Debian {self.suite}")
        self.folder.mkdir(parents=True)
        run(["mount", "-t", "tmpfs", "-o", "size=12g,mode=755", f"certsync-lab-{self.name}",
             self._disk()])  # fmt: skip
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "certsync lab operator",
             "-f", self.folder / "id_ed25519"])  # fmt: skip
        self._allow_many_hosts()
        network.make_operator(self.name)
        for machine in self.machines:
            machine.prepare()
        self.ca.install()
        for machine in self.machines:
            binds = [f"{programs}:/opt/pebble"] if machine == self.ca.machine else []
            machine.boot(*binds)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(Machine.wait, self.machines))
        self._pin_host_keys()
        self.ca.fetch_roots()
        facts = self._facts(image_path(self.suite))
        (self.folder / "lab.json").write_text(json.dumps(facts, indent=2))
        say(f"lab {self.name} is up: {', '.join(machine.name for machine in self.machines)}")

    def _disk(self) -> Path:
        disk = self.folder / "disk"
        disk.mkdir()
        return disk

    def _pin_host_keys(self) -> None:
        known = [
            f"{address} {line}\n"
            for machine in self.machines
            for line in machine.sh("cat /etc/ssh/ssh_host_*_key.pub").splitlines()
            for address in (machine.address, machine.address6)
        ]
        (self.folder / "known_hosts").write_text("".join(known))

    def _allow_many_hosts(self) -> None:
        # Each host's systemd takes half a dozen, and all labs on this machine share one limit.
        before = int(INOTIFY.read_text())
        if before < MANY:
            say(f"raising fs.inotify.max_user_instances to {MANY} while a lab is up")
            (self.folder / "inotify").write_text(str(before))
            INOTIFY.write_text(str(MANY))

    def _allow_as_many_as_before(self) -> None:
        saved = self.folder / "inotify"
        if not saved.exists():
            return
        others = [each for each in self.folder.parent.iterdir() if each != self.folder]
        standing = [each for each in others if (each / "id_ed25519").exists()]
        if standing:
            # Another lab still needs it, and restores it when it goes down.
            shutil.copy(saved, standing[0] / "inotify")
        else:
            INOTIFY.write_text(saved.read_text())

    def _sweep(self) -> None:
        """Remove everything that earlier runs of this lab left."""
        for group in cgroup.names(f"{self.name}."):
            cgroup.remove(group)
        mounts = [*_mounts(f"{self.folder}/"), *_mounts(f"{EXPORTS}/{self.name}-")]
        for target in reversed(mounts):
            if not attempt(["umount", target]):
                run(["umount", "--lazy", target])
        network.remove(self.name)
        self._allow_as_many_as_before()
        for master in self.folder.glob("ssh-*"):
            attempt(["ssh", "-o", f"ControlPath={master}", "-O", "exit", "lab"])
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.exists():
            raise LabError(f"{self.folder} cannot be removed", f"rm -r {self.folder}")


def _mounts(prefix: str) -> Sequence[str]:
    targets = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [target for target in targets if target.startswith(prefix)]
