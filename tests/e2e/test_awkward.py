"""What operators and hosts have that the tutorial has not, all of it in one fleet.

The operator's key has a passphrase and is in an agent among many; one backend is behind a jump
host; known_hosts has marked lines. The issuer speaks French, its login shell prints, it cannot
resolve its own name, and UFW is active.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import Lab, Machine
from tests.e2e.conftest import BringUp
from tests.e2e.road import NAME, Road

HIDDEN, BEHIND = "hidden.example", "backend-03"
"""An address that only the operator's SSH configuration knows, and whose it is."""

OTHER_KEYS = 7
"""More than sshd lets anybody try (sshd_config(5), MaxAuthTries)."""

NOISE = "echo Bienvenue; printf 'pas de fin'; echo attention >&2"
NAMELESS = "python3 -c 'import socket; socket.sethostname(\"no..name\")'"
FRENCH = "LANG=fr_FR.UTF-8"
SSHD_LOG = "journalctl -q --no-pager -t sshd -t sshd-session"
MARKED = """\
@cert-authority *.elsewhere.example {key}
@revoked * {key}
"""
CONFIG = """\
Host {hidden}
  HostName {target}
  ProxyJump admin@{jump}
Host {jump}
  IdentityFile {key}.pub
  IdentitiesOnly yes
Host *
  UserKnownHostsFile {known_hosts}
"""


class Operator:
    """The operator's agent, keys and SSH configuration."""

    def __init__(self, road: Road, folder: Path) -> None:
        self.road, self.folder = road, folder
        self.key, self.known_hosts = folder / "id_ed25519", folder / "known_hosts"
        self._make_key(self.key, "a passphrase")
        self._make_key(folder / "other", "")
        other = (folder / "other.pub").read_text()
        pinned = (road.lab.folder / "known_hosts").read_text()
        self.known_hosts.write_text(MARKED.format(key=other.strip()) + pinned)
        text = CONFIG.format(
            hidden=HIDDEN,
            target=road.lab.machine(BEHIND).address,
            jump=road.lab.machine("backend-02").address,
            key=self.key,
            known_hosts=self.known_hosts,
        )
        (folder / "config").write_text(text)
        # ssh(1) takes the home from passwd(5), whatever $HOME is.
        self._program("ssh", f'exec /usr/bin/ssh -F {folder}/config "$@"')
        self._program("askpass", "echo a passphrase")
        for machine in (*road.lab.backends, *road.lab.balancers):
            keys = machine.root / "home/admin/.ssh/authorized_keys"
            keys.write_text(keys.read_text() + self.key.with_suffix(".pub").read_text())

    def _make_key(self, path: Path, passphrase: str) -> None:
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)]
        subprocess.run(argv, check=True)

    def _program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    @contextmanager
    def agent(self, socket: Path) -> Iterator[None]:
        """Run an agent with the key, behind many others, inside the block."""
        child = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSH_AUTH_SOCK", str(socket))
            patch.setenv("PATH", f"{self.folder}/bin:{os.environ['PATH']}")
            try:
                subprocess.run(["timeout", "5", "sh", "-c", f"until [ -S {socket} ]; do :; done"])
                for number in range(OTHER_KEYS):
                    path = self.folder / f"many-{number}"
                    self._make_key(path, "")
                    subprocess.run(["ssh-add", "-q", str(path)], check=True)
                self.add_key()
                yield
            finally:
                child.terminate()
                child.wait()

    def add_key(self) -> None:
        """Put the key into the agent."""
        asked = {"SSH_ASKPASS": f"{self.folder}/bin/askpass", "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(["ssh-add", "-q", str(self.key)], check=True, env={**os.environ, **asked})


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return an awkward fleet that nothing has been deployed to; a fourth backend is there."""
    folder = tmp_path_factory.mktemp("awkward")
    with bring_up(Lab("awkward", backends=4)) as lab:
        road = Road(lab, folder)
        operator = Operator(road, folder)
        with operator.agent(folder / "agent"):
            issuer = road.issuer
            issuer.sh(f"echo {FRENCH} | tee /etc/default/locale >> /etc/environment")
            issuer.sh(f"{NAMELESS} && ufw allow OpenSSH && ufw --force enable")
            for home in ("root", "home/admin"):
                bashrc = issuer.root / home / ".bashrc"
                bashrc.write_text(f"{NOISE}\nexport {FRENCH}\n")
            road.edit(f"{lab.folder}/known_hosts", f"{operator.known_hosts}")
            road.edit(f"{lab.folder}/id_ed25519", f"{operator.key}")
            address = lab.machine(BEHIND).address
            road.edit(
                f'address = "{address}"', f'address = "{HIDDEN}"\nprivate_address = "{address}"'
            )
            # For a key in an agent, its public half is enough.
            second = f'address = "{lab.machine("backend-02").address}"'
            road.edit(second, f'{second}\nssh_key = "{operator.key}.pub"')
            yield road


@pytest.fixture
def operator(road: Road) -> Iterator[None]:
    """Have the agent as it is at first, after the test too."""
    yield
    asked = {"SSH_ASKPASS": f"{road.folder}/bin/askpass", "SSH_ASKPASS_REQUIRE": "force"}
    key = str(road.folder / "id_ed25519")
    subprocess.run(["ssh-add", "-q", key], check=True, env={**os.environ, **asked})


@pytest.mark.usefixtures("operator")
def test_a_key_that_is_not_in_the_agent_is_told_of_every_host_and_nobody_is_asked(
    road: Road,
) -> None:
    subprocess.run(["ssh-add", "-q", "-d", str(road.folder / "id_ed25519")], check=True)
    checked = road.certsync("check", "--online")
    assert checked.status == 3
    assert checked.stdout.count(": it does not accept the SSH key\n") == 3
    assert f"{BEHIND}: its jump host (admin@" in checked.stdout
    assert " cannot be passed: admin@203.0.113.12: Permission denied (" in checked.stdout
    ended = road.deploy()
    assert ended.status == 1
    assert "it does not accept the SSH key" in ended.stderr
    assert "ssh-add KEY" in ended.stderr


def test_too_many_keys_are_told_with_what_names_one(road: Road) -> None:
    key = f'key = "{road.folder}/id_ed25519"\n'
    road.edit(key, "")
    checked = road.certsync("check", "--online")
    road.edit("[ssh]\n", f"[ssh]\n{key}")
    assert checked.status == 3
    assert "balancer: it refused the connection after too many SSH keys\n" in checked.stdout
    assert "IdentitiesOnly" in checked.stdout


def test_the_check_finds_such_a_fleet_ready(road: Road) -> None:
    checked = road.certsync("check", "--online")
    assert checked.status == 0, checked.everything
    assert "every host is ready" in checked.stdout
    assert "'Bienvenue'" in checked.stdout


@contextmanager
def change(machine: Machine, begin: str, end: str) -> Iterator[None]:
    """Have a host changed inside the block."""
    machine.sh(begin)
    try:
        yield
    finally:
        machine.sh(end)


def finds(road: Road, *words: str) -> None:
    checked = road.certsync("check", "--online")
    assert checked.status == 3, checked.everything
    for each in words:
        assert each in checked.stdout


def test_the_check_finds_what_a_deploy_would_stumble_over_between_hosts(road: Road) -> None:
    issuer, replica = road.issuer, road.replicas[0]
    conf = "/etc/ssh/sshd_config.d/own.conf"
    with change(
        replica,
        f"echo 'AllowUsers admin' > {conf} && systemctl reload ssh",
        f"rm {conf} && systemctl reload ssh",
    ):
        finds(
            road, f"{replica.name}: its sshd would refuse the issuer's pushes", "AllowUsers admin"
        )
    other = "203.0.113.111"
    with change(
        issuer,
        f"ip address add {other}/24 dev host0 && "
        f"ip route add {replica.address}/32 dev host0 src {other}",
        f"ip route del {replica.address}/32; ip address del {other}/24 dev host0",
    ):
        finds(road, f"connections to {replica.name} come from {other}")
    rule = f"from {issuer.address} to any port 22 proto tcp"
    with change(
        replica,
        f"ufw allow OpenSSH && ufw insert 1 reject {rule} && ufw --force enable",
        f"ufw delete reject {rule}",
    ):
        finds(road, f"it does not reach {replica.name} at {replica.address}, port 22")
    with change(
        issuer,
        f"cp /etc/hosts /run/hosts && echo 198.51.100.9 {NAME} >> /etc/hosts",
        "cat /run/hosts > /etc/hosts",
    ):
        finds(road, f"{issuer.name}: {NAME} resolves to 198.51.100.9", "`getent ahosts")


def test_such_a_fleet_is_deployed_and_in_service(road: Road) -> None:
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert road.pages() == {"backend-01", "backend-02", "backend-03"}
    assert road.certsync("status").status == 0
    rules = road.issuer.sh("LC_ALL=C ufw status")
    assert "Status: active" in rules
    assert "Nginx Full" in rules
    from_jump = f"Accepted publickey for admin from {road.replicas[0].address}"
    assert from_jump in road.lab.machine(BEHIND).sh(SSHD_LOG)


def test_it_renews(road: Road) -> None:
    ended = road.renew("--force")
    assert ended.status == 0, ended.everything
    assert road.generations() == dict.fromkeys(("backend-01", "backend-02", "backend-03"), "0002")
    assert road.certsync("status").status == 0


def test_a_backend_is_added_and_the_one_behind_the_jump_host_is_removed(road: Road) -> None:
    ended = road.certsync("add-backend", "backend-04", road.lab.machine("backend-04").address)
    assert ended.status == 0, ended.everything
    ended = road.certsync("remove-backend", BEHIND)
    assert ended.status == 0, ended.everything
    assert road.pages(8) == {"backend-01", "backend-02", "backend-04"}


def test_before_a_promotion_it_is_said_which_replica_would_refuse_the_new_issuer(
    road: Road,
) -> None:
    conf = "/etc/ssh/sshd_config.d/own.conf"
    replica = road.lab.machine("backend-04")
    with change(
        replica,
        f"echo 'AllowUsers admin' > {conf} && systemctl reload ssh",
        f"rm {conf} && systemctl reload ssh",
    ):
        dry = road.certsync("promote", "backend-02", "--dry-run")
    assert dry.status == 0, dry.everything
    assert "warning: backend-04: its sshd would refuse the issuer's pushes" in dry.stderr


def test_a_promotion_opens_fewer_connections_than_a_limit_rule_allows(road: Road) -> None:
    since = time.strftime("%F %T")
    ended = road.certsync("promote", "backend-02")
    assert ended.status == 0, ended.everything
    assert "warning: backend" not in ended.stderr
    for machine in (road.lab.balancer, *road.backends):
        log = machine.sh(f"{SSHD_LOG} --since '{since}'")
        print(log)
        # ufw(8), limit: six within thirty seconds are too many.
        assert 0 < log.count("Accepted publickey for admin") < 6
