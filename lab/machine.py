"""One real host of a lab: a booted Debian with an address, sshd, systemd and apt."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from lab import cgroup, network
from lab.cable import Cable, laid
from lab.errors import LabError
from lab.shell import attempt, run

USER = "admin"
EXPORTS = Path("/run/systemd/nspawn/unix-export")
"""Where newer versions of systemd-nspawn mount a folder for each host. If one is killed, its mount
stays, and the next one refuses to start."""


@dataclass(frozen=True)
class Machine:
    """A host. ``number`` is the last part of both its addresses."""

    lab: str
    name: str
    number: int
    run_folder: Path
    image: Path
    prepared: Path | None = None
    """The layer on top of the image that its disk starts with; None: none."""

    @property
    def address(self) -> str:
        """Its IPv4 address."""
        return f"{network.IPV4}{self.number}"

    @property
    def address6(self) -> str:
        """Its IPv6 address."""
        return f"{network.IPV6}{self.number}"

    @property
    def group(self) -> str:
        """The name of its control group."""
        return f"{self.lab}.{self.name}"

    @property
    def root(self) -> Path:
        """Its file system, seen from outside."""
        return self.run_folder / "disk" / self.name / "root"

    @property
    def layer(self) -> Path:
        """What was written to its disk since it started."""
        return self.root.parent / "upper"

    @property
    def log(self) -> Path:
        """Its console output."""
        return self.run_folder / f"{self.name}.console"

    def prepare(self) -> None:
        """Mount its disk over the image and plug it into the network, without booting it."""
        network.make_host(self.lab, self.name, self.number)
        disk = self.root.parent
        upper, work = self.layer, disk / "work"
        for folder in (upper, work, self.root):
            folder.mkdir(parents=True)
        lower = f"{self.prepared}:{self.image}" if self.prepared else str(self.image)
        run(["mount", "-t", "overlay", f"certsync-lab-{self.group}",
             "-o", f"lowerdir={lower},upperdir={upper},workdir={work}",
             self.root])  # fmt: skip
        etc = self.root / "etc"
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {self.name}\n")
        (etc / "resolv.conf").write_text(f"nameserver {network.IPV4}{network.CA}\n")
        keys = self.root / f"home/{USER}/.ssh/authorized_keys"
        shutil.copy(self.run_folder / "id_ed25519.pub", keys)
        os.chown(keys, 1000, 1000)
        keys.chmod(0o600)

    def boot(self, *binds: str) -> None:
        """Start it; return at once. ``binds`` are read-only `--bind-ro` arguments."""
        self.join()
        entries = " ".join(str(path) for path in cgroup.make(self.group))
        nspawn = [
            "systemd-nspawn", "-q", "--register=no", "--keep-unit", "--resolv-conf=off",
            "--capability=CAP_NET_ADMIN", "--link-journal=no", "-b", "-D", str(self.root),
            f"--network-namespace-path=/run/netns/{network.namespace(self.lab, self.name)}",
            "-M", f"{self.lab}-{self.name}", f"--hostname={self.name}",
            *(f"--bind-ro={bind}" for bind in binds),
        ]  # fmt: skip
        joined = f'for entry in {entries}; do echo $$ > "$entry"; done; exec "$@"'
        with self.log.open("a") as console:
            subprocess.Popen(
                ["sh", "-c", joined, "boot", *nspawn],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                # Without this, UFW cannot write to the host's own /proc/sys/net.
                env={**os.environ, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"},
            )

    def wait(self, seconds: float = 60) -> None:
        """Wait until SSH answers and systemd has finished booting.

        Raises:
            LabError: it has not after ``seconds``; the message has the console's tail.
        """
        end = time.monotonic() + seconds
        # Polled, because systemctl's own --wait has been seen to miss the moment.
        booted = "case $(systemctl is-system-running) in running|degraded) ;; *) exit 1 ;; esac"
        while not attempt([*self.ssh_argv(), booted], timeout=10):
            if time.monotonic() > end:
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
                raise LabError(f"{self.name} does not answer on SSH after {seconds:g} s\n{tail}")
            time.sleep(0.2)

    def running(self) -> bool:
        """Return whether any of its processes runs."""
        return bool(cgroup.processes(self.group))

    def power_off(self, seconds: float = 30) -> None:
        """Shut it down cleanly; its disk stays, so that it can boot again."""
        attempt([*self.ssh_argv(), "sudo systemctl poweroff"])
        end = time.monotonic() + seconds
        while self.running():
            if time.monotonic() > end:
                self.kill()
            time.sleep(0.1)
        self._ended()

    def kill(self) -> None:
        """Cut its power, as if the plug were pulled."""
        for process in cgroup.processes(self.group):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._ended()

    def _ended(self) -> None:
        cgroup.remove(self.group)
        # A machine without power does not answer, but its namespace would refuse connections.
        self.cut()
        network.restore_addresses(self.lab, self.name, self.number)
        if (export := EXPORTS / f"{self.lab}-{self.name}").is_mount():
            run(["umount", export])

    def cut(self) -> None:
        """Pull its network cable."""
        network.plug(self.lab, self.number, connected=False)

    def join(self) -> None:
        """Put its network cable back."""
        network.plug(self.lab, self.number, connected=True)

    def slow(
        self, *, delay_ms: float = 0, loss: float = 0, seed: int = 0
    ) -> AbstractContextManager[None]:
        """Give it a long cable inside the block.

        ``delay_ms`` is the round-trip time, as `ping` from the operator's machine shows it; between
        two slow hosts it is twice that. ``loss`` is the probability, each way, that a frame is
        lost; ``seed`` decides which.

        Raises:
            LabError: it cannot be set up, or did not last for the block.
        """
        cable = Cable(self.lab, self.name, self.number, delay_ms, loss, seed)
        return laid(cable, self.run_folder / f"{self.name}.cable")

    def ssh_argv(self, user: str = USER) -> list[str]:
        """Return the command that opens an SSH session from the operator's namespace."""
        folder = self.run_folder
        return [
            "ip", "netns", "exec", network.namespace(self.lab, "operator"),
            "ssh", "-i", str(folder / "id_ed25519"), "-o", "IdentitiesOnly=yes",
            "-o", f"UserKnownHostsFile={folder / 'known_hosts'}",
            "-o", "StrictHostKeyChecking=accept-new", "-o", "BatchMode=yes",
            "-o", "ConnectTimeout=5", "-o", "KexAlgorithms=curve25519-sha256",
            "-o", f"ControlPath={folder}/ssh-%C", "-o", "ControlMaster=auto",
            "-o", "ControlPersist=60", "-o", "LogLevel=ERROR", f"{user}@{self.address}",
        ]  # fmt: skip

    def attempt(self, command: str, *, input: str = "", timeout: float = 120) -> tuple[int, str]:
        """Run a shell command as root and return its exit status and its output."""
        done = subprocess.run(
            [*self.ssh_argv(), "sudo sh -s"],
            input=f"exec 2>&1\n{_with_input(command, input)}\n",
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return done.returncode, done.stdout + done.stderr

    def sh(self, command: str, *, input: str = "", timeout: float = 120) -> str:
        """Run a shell command as root and return its output.

        Raises:
            LabError: it exits non-zero.
        """
        status, output = self.attempt(command, input=input, timeout=timeout)
        if status != 0:
            raise LabError(f"{self.name}: `{command}` exited {status}: {output.strip()}")
        return output


def _with_input(command: str, text: str) -> str:
    if not text:
        return f"( {command}\n) < /dev/null"
    return f"( {command}\n) <<'END-OF-INPUT'\n{text}\nEND-OF-INPUT"
