"""The lab itself: hosts like those of a cloud, and nothing left of them after."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from lab import Lab, LabError, Machine, cgroup, network
from lab.machine import EXPORTS
from lab.suites import DEFAULT_SUITE, SUITES
from lab.world import CHECKOUT, RUN
from tests.e2e.conftest import BringUp

NAME = "passthrough.example.com"
HELD = "from lab import Lab\nwith Lab('{name}', backends=1): print('up', flush=True); input()"


@pytest.fixture(scope="module", params=SUITES)
def lab(request: pytest.FixtureRequest, bring_up: BringUp) -> Iterator[Lab]:
    with bring_up(Lab("labtest", backends=2, suite=request.param)) as lab:
        yield lab


@pytest.fixture
def backend(lab: Lab) -> Machine:
    return lab.backends[0]


def as_operator(lab: Lab, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*lab.operator_argv(), *command], capture_output=True, text=True, timeout=60
    )


def answers_on_ssh(lab: Lab, address: str) -> bool:
    command = f"exec 3<> /dev/tcp/{address}/22 && head -c 4 <&3"
    return as_operator(lab, "timeout", "3", "bash", "-c", command).stdout == "SSH-"


def soon(condition: Callable[[], bool], *, seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_each_host_is_of_the_suite_asked_for(lab: Lab) -> None:
    for machine in lab.machines:
        assert f"VERSION_CODENAME={lab.suite}\n" in machine.sh("cat /etc/os-release")
        assert machine.sh("hostname") == f"{machine.name}\n"


def test_each_host_answers_on_both_families(lab: Lab) -> None:
    for machine in lab.machines:
        assert answers_on_ssh(lab, machine.address), machine.name
        assert answers_on_ssh(lab, machine.address6), machine.name


def test_each_host_has_ssh_keys_of_its_own(lab: Lab) -> None:
    keys = [machine.sh("cat /etc/ssh/ssh_host_ed25519_key.pub") for machine in lab.machines]
    assert len(set(keys)) == len(lab.machines)


def test_nothing_can_leave_the_lab(lab: Lab) -> None:
    show = "ip -4 route show default; ip -6 route show default"
    assert [machine.sh(show) for machine in lab.machines] == [""] * len(lab.machines)
    assert as_operator(lab, "sh", "-c", show).stdout == ""


@pytest.mark.parametrize("package", ["nginx", "haproxy"])
def test_what_the_deploys_install_is_not_there_yet(backend: Machine, package: str) -> None:
    status, _ = backend.attempt(f"dpkg-query -W {package}")
    assert status == 1


def test_apt_installs_from_the_disk_for_real(backend: Machine) -> None:
    sources = backend.sh("cat /etc/apt/sources.list; ls /etc/apt/sources.list.d")
    assert sources == "deb [trusted=yes] file:/srv/apt ./\n"
    backend.sh("apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y nginx")
    assert backend.sh("systemctl is-active nginx") == "active\n"


def test_the_ssh_user_is_a_cloud_images_own(backend: Machine) -> None:
    def over_ssh(command: str) -> str:
        argv = [*backend.ssh_argv(), command]
        return subprocess.run(argv, capture_output=True, text=True, timeout=30).stdout

    assert over_ssh("id -un") == "admin\n"
    assert over_ssh("sudo -n id -un") == "root\n"
    assert over_ssh("sudo -n passwd -S admin").split()[1] == "L"


def test_every_name_leads_to_the_balancer_at_first(lab: Lab, backend: Machine) -> None:
    for family, address in (("4", lab.balancer.address), ("6", lab.balancer.address6)):
        look = f"getent ahostsv{family} {NAME}"
        assert backend.sh(look).split()[0] == address
        assert as_operator(lab, *look.split()).stdout.split()[0] == address


def test_a_name_can_be_led_elsewhere_and_back(lab: Lab, backend: Machine) -> None:
    lab.ca.set_address(NAME, ipv4=[backend.address], ipv6=[backend.address6])
    assert backend.sh(f"getent ahostsv4 {NAME}").split()[0] == backend.address
    lab.ca.set_address(NAME, ipv4=[], ipv6=[])
    assert backend.sh(f"getent ahostsv4 {NAME}").split()[0] == lab.balancer.address


def test_the_ca_answers_and_its_two_roots_differ(lab: Lab) -> None:
    ask = ["curl", "-sS", "--capath", "/dev/null", "--cacert"]
    told = as_operator(lab, *ask, str(lab.ca.bundle), lab.ca.directory)
    assert "newOrder" in json.loads(told.stdout)
    assert as_operator(lab, *ask, str(lab.ca.roots), lab.ca.directory).returncode == 60


def test_up_twice_changes_nothing(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    before = {machine.name: machine.sh("cut -d ' ' -f 22 /proc/1/stat") for machine in lab.machines}
    Lab(lab.name, backends=2, suite=lab.suite).up()
    assert capsys.readouterr().err == f"lab: lab {lab.name} is already up\n"
    after = {machine.name: machine.sh("cut -d ' ' -f 22 /proc/1/stat") for machine in lab.machines}
    assert after == before


@pytest.mark.parametrize("backends", [1, 3])
def test_up_with_other_hosts_than_there_are_is_refused(lab: Lab, backends: int) -> None:
    with pytest.raises(LabError) as caught:
        Lab(lab.name, backends=backends, suite=lab.suite).up()
    assert str(caught.value) == f"lab {lab.name} is up with 2 backends on {lab.suite}"
    assert caught.value.hint == "lab/lab down, then up again"


@pytest.fixture
def of_another_checkout(lab: Lab) -> Iterator[Lab]:
    path = lab.folder / "lab.json"
    ours = path.read_text()
    path.write_text(json.dumps({**json.loads(ours), "checkout": "/srv/elsewhere"}))
    yield lab
    path.write_text(ours)


@pytest.mark.parametrize("enter", [Lab.up, Lab.__enter__], ids=["up", "with"])
@pytest.mark.parametrize("backends", [2, 3])
def test_the_lab_of_another_checkout_is_refused_and_left_alone(
    of_another_checkout: Lab, enter: Callable[[Lab], object], backends: int
) -> None:
    theirs = of_another_checkout
    home = "/srv/elsewhere"
    with pytest.raises(LabError) as caught:
        enter(Lab(theirs.name, backends=backends, suite=theirs.suite))
    assert str(caught.value) == f"lab {theirs.name} is up and belongs to the checkout {home}"
    assert caught.value.hint == (
        "take it down there with `lab/lab down`, or use another name with --name"
    )
    assert all(machine.running() for machine in theirs.machines)
    assert answers_on_ssh(theirs, theirs.backends[0].address)


def test_a_host_that_was_switched_off_keeps_its_disk(lab: Lab) -> None:
    machine = lab.backends[1]
    machine.sh("echo kept > /root/note && sync")
    machine.power_off()
    assert not machine.running()
    assert not answers_on_ssh(lab, machine.address)
    machine.boot()
    machine.wait()
    assert machine.sh("cat /root/note") == "kept\n"
    assert machine.sh("systemctl is-system-running || :") == "running\n"


def test_a_host_without_its_plug_keeps_its_disk(lab: Lab) -> None:
    machine = lab.backends[1]
    machine.sh("echo pulled > /root/note && sync")
    machine.kill()
    assert not machine.running()
    machine.boot()
    machine.wait()
    assert machine.sh("cat /root/note") == "pulled\n"


def test_a_cut_host_is_out_of_reach_until_it_joins_again(lab: Lab) -> None:
    machine = lab.backends[1]
    machine.cut()
    assert not answers_on_ssh(lab, machine.address)
    assert not answers_on_ssh(lab, machine.address6)
    machine.join()
    # Who asked in vain while it was away finds it again when its neighbour entry has run out.
    for address in (machine.address, machine.address6):
        assert soon(partial(answers_on_ssh, lab, address), seconds=10), address


CONNECT = """\
import socket, sys, time
took = []
for _ in range(3):
    begin = time.monotonic()
    socket.create_connection((sys.argv[1], 22), timeout=10).close()
    took.append(time.monotonic() - begin)
print(min(took))
"""
LINKS = ("ip", "-br", "link")


def there_and_back(lab: Lab, address: str) -> float:
    """Return the seconds that a connection takes to be made: a frame there and one back."""
    return float(as_operator(lab, sys.executable, "-c", CONNECT, address).stdout)


def has_a_long_cable(lab: Lab) -> bool:
    return "slow-" in as_operator(lab, *LINKS).stdout


def test_a_long_cable_delays_both_families_until_its_end(lab: Lab, backend: Machine) -> None:
    with backend.slow(delay_ms=100):
        assert has_a_long_cable(lab)
        assert there_and_back(lab, backend.address) >= 0.1
        assert there_and_back(lab, backend.address6) >= 0.1
    assert not has_a_long_cable(lab)
    assert answers_on_ssh(lab, backend.address)
    assert answers_on_ssh(lab, backend.address6)


@pytest.mark.parametrize("loss", [0, 0.01])
def test_what_goes_over_a_long_cable_arrives_unharmed(backend: Machine, loss: float) -> None:
    blob = random.Random(1).randbytes(20_000_000)
    with backend.slow(delay_ms=20, loss=loss):
        there = [*backend.ssh_argv(), "tee /tmp/blob | sha256sum"]
        done = subprocess.run(there, input=blob, capture_output=True, timeout=120)
        assert done.stdout.decode().split()[0] == hashlib.sha256(blob).hexdigest()
        back = subprocess.run(
            [*backend.ssh_argv(), "cat /tmp/blob; rm /tmp/blob"], capture_output=True, timeout=120
        )
        assert back.stdout == blob


def test_of_frames_that_are_all_lost_none_arrives(lab: Lab, backend: Machine) -> None:
    with backend.slow(loss=1):
        assert not answers_on_ssh(lab, backend.address)
    assert answers_on_ssh(lab, backend.address)


def test_a_long_cable_can_be_pulled_and_put_back(lab: Lab, backend: Machine) -> None:
    with backend.slow(delay_ms=10):
        backend.cut()
        assert not answers_on_ssh(lab, backend.address)
        backend.join()
        assert soon(partial(answers_on_ssh, lab, backend.address), seconds=10)
        assert has_a_long_cable(lab)


def test_a_killed_process_leaves_a_host_its_short_cable(lab: Lab, backend: Machine) -> None:
    child = subprocess.Popen(
        [CHECKOUT / "lab/lab", "--name", lab.name, "slow", backend.name, "--loss", "1"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    assert child.stderr.readline() == f"lab: {backend.name} has a long cable until Ctrl-C\n"
    assert not answers_on_ssh(lab, backend.address)
    child.kill()
    child.communicate()
    assert soon(lambda: not has_a_long_cable(lab))
    assert soon(partial(answers_on_ssh, lab, backend.address), seconds=10)


def lab_command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CHECKOUT / "lab/lab", *words], capture_output=True, text=True, timeout=300
    )


def test_the_command_runs_on_hosts_and_hands_the_exit_status_on(lab: Lab) -> None:
    done = lab_command("--name", lab.name, "sh", "backend-02", "sh", "-c", "id -un; exit 7")
    assert (done.returncode, done.stdout) == (7, "root\n")
    done = lab_command("--name", lab.name, "sh", "operator", "ip", "-br", "address", "show", "br0")
    assert f"{network.IPV4}{network.OPERATOR}/24" in done.stdout


def test_the_command_names_the_hosts_there_are(lab: Lab) -> None:
    done = lab_command("--name", lab.name, "sh", "backend-09", "true")
    assert done.returncode == 1
    assert done.stderr == (
        "error: no host 'backend-09' in this lab\n"
        "hint: its hosts are: operator, ca, balancer, backend-01, backend-02\n"
    )


def test_the_command_tells_that_no_lab_is_up() -> None:
    done = lab_command("--name", "nosuch", "sh", "operator", "true")
    assert done.returncode == 1
    assert done.stderr == "error: lab nosuch is not up\nhint: lab/lab up\n"


def test_down_without_a_lab_is_done_at_once() -> None:
    assert lab_command("--name", "nosuch", "down").returncode == 0


def traces(name: str) -> list[str]:
    """Return what there is of a lab on this machine."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    commands = {path: read(path / "cmdline") for path in Path("/proc").glob("[0-9]*")}
    return [
        *network.names(name),
        *cgroup.names(f"{name}."),
        *(mount for mount in mounts if mount.startswith((f"{RUN}/{name}/", f"{EXPORTS}/{name}-"))),
        *(str(path) for path in (RUN / name,) if path.exists()),
        *(str(path) for path in Path("/etc/netns").glob(f"cs-{name}-*")),
        *(f"{path.name} {text}" for path, text in commands.items() if f"{RUN}/{name}/" in text),
    ]


def read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""


@pytest.mark.parametrize("moment", ["booting", "up"])
def test_a_killed_process_leaves_nothing_of_its_lab(moment: str) -> None:
    name = f"dead{moment}"
    assert traces(name) == []
    child = subprocess.Popen(
        [sys.executable, "-c", HELD.format(name=name)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    if moment == "up":
        assert child.stdout.readline() == b"up\n"
    else:
        assert soon(lambda: len(cgroup.names(f"{name}.")) > 1)
    assert traces(name) != []
    child.kill()
    child.communicate()
    assert soon(lambda: traces(name) == []), traces(name)


def test_a_lab_takes_its_long_cables_along(bring_up: BringUp) -> None:
    lab = Lab("cabled", backends=1, suite=DEFAULT_SUITE)
    with bring_up(lab):
        cable = lab.backends[0].slow(delay_ms=10)
        cable.__enter__()
        lab.down()
        assert soon(lambda: traces(lab.name) == []), traces(lab.name)
        with pytest.raises(LabError, match="broke"):
            cable.__exit__(None, None, None)
    assert traces(lab.name) == []


def test_an_error_inside_the_block_takes_the_lab_down_too(bring_up: BringUp) -> None:
    def fail() -> None:
        with bring_up(Lab("failing", backends=1, suite=DEFAULT_SUITE)):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert traces("failing") == []


KEPT = (
    "cd /srv && rm -r apt && mkdir apt && rm /etc/issue && install -o admin -m 4750 /bin/true own; "
    "ln -s nowhere led; echo kept > note"
)
LOOK = "cd /srv; ls -A apt; cat note; readlink led; stat -c '%a %U' own; ls /etc/issue 2>&1 || :"
LOOKS = "kept\nnowhere\n4750 admin\nls: cannot access '/etc/issue': No such file or directory\n"
KEYS, IDENTITY = "cat /etc/ssh/ssh_host_*_key.pub", "cat /etc/machine-id"
LOGGED = "journalctl -q --no-pager -t lab"


def test_a_lab_starts_from_disks_that_another_one_has_kept(
    bring_up: BringUp, tmp_path: Path
) -> None:
    with bring_up(Lab("keeping", backends=1)) as lab:
        machine = lab.backends[0]
        machine.sh(f"{KEPT}; logger -t lab before")
        assert machine.sh(LOOK) == LOOKS
        keys, identity = machine.sh(KEYS), machine.sh(IDENTITY)
        lab.keep_disks(tmp_path)
    for _ in range(2):
        with bring_up(Lab("fromkept", backends=2, disks=tmp_path)) as lab:
            machine, empty = lab.backends
            assert machine.sh(LOOK) == LOOKS
            # Who has pinned its keys finds them again; the rest of what is a host's own is new.
            assert machine.sh(KEYS) == keys
            assert machine.sh(IDENTITY) != identity
            assert machine.sh(LOGGED) == ""
            assert machine.sh("hostname") == "backend-01\n"
            assert machine.sh("systemctl is-system-running || :") == "running\n"
            assert "Packages" in empty.sh("ls /srv/apt").split()
            assert empty.sh(KEYS) != keys
            # What it writes is its own.
            machine.sh("rm -r /srv/*; echo changed > /srv/note; sync")
