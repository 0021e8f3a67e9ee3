"""A renewal that is cut off anywhere: the next run converges, and no key was ever a wrong one."""

from __future__ import annotations

import hashlib
import json
import shutil
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from certsync.issuer.steps import RENEWAL, Step
from lab import Lab, Machine
from tests.e2e.conftest import BringUp
from tests.e2e.load import NEW, Load, Target
from tests.e2e.road import LINEAGE, LIVE, NAME, Ended, Road

Subject = TypeVar("Subject")

KILLED = 128 + 9
PLACEHOLDER = "0000"
AFTER_THE_LAST = "the end"
PLAN = [step.name for step in RENEWAL]
BOUNDARIES = [*PLAN, AFTER_THE_LAST]
"""Where a run is cut off: before each step of the plan, and after the last."""

FOLDER = Path("/root/boundary")
"""On the issuer: the wrapper, and what shows where it is."""

WRAPPER = f"""
import os, signal, subprocess, sys, time
from certsync.issuer import steps
from certsync.main import main

mode, where, delay = sys.argv[1:]
take_it = steps.take

def at_boundary():
    if mode == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    open("{FOLDER}/held", "w").close()
    while os.path.exists("{FOLDER}/held"):
        time.sleep(0.02)

def at_challenge_file(event, arguments):
    if event == "os.chmod" and "/acme-challenge/" in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)

def take(step, work):
    inside = mode == "kill inside" and step.name == where
    if mode == "kill at challenge file" and step.name == where:
        sys.addaudithook(at_challenge_file)
    elif inside:
        killer = subprocess.Popen(["sh", "-c", f"sleep {{delay}}; kill -9 {{os.getpid()}}"])
    elif step.name == where:
        at_boundary()
    began = time.monotonic()
    result = take_it(step, work)
    print("took", step.name, time.monotonic() - began, flush=True)
    if inside:
        killer.wait()
    if step is steps.RENEWAL[-1] and where == "{AFTER_THE_LAST}":
        at_boundary()
    return result

steps.take = take
main(["renew", "--force"])
"""
"""Runs a renewal and prints the steps that it takes, and in how many seconds. At a boundary it is
killed, or held until a file is gone; or it is killed inside a step, so many seconds after it began
or with a challenge file just written."""

ARCHIVE, STAGING = LINEAGE.lstrip("/"), "etc/certsync/staging"
INBOX, PENDING = "var/lib/certsync-receive/inbox", f"etc/certsync/pending/{NAME}"
PEM_FILES = {"privkey.pem", "cert.pem", "chain.pem", "fullchain.pem"}

CHALLENGES = "/var/lib/certsync/webroot/.well-known/acme-challenge"
LEFT = (
    f"ls -d /run/certsync-push/outbox 2>/dev/null; ls -A {CHALLENGES}; "
    "flock --nonblock /run/certsync.lock echo the lock is free"
)


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a deployed fleet on which nothing is to be done."""
    with bring_up(Lab("killed"), prepared=True) as lab:
        # Every order is validated anew, so that challenges are on the disk.
        lab.ca.restart({"PEBBLE_AUTHZREUSE": "0"})
        road = Road(lab, tmp_path_factory.mktemp("killed"))
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        # The first hourly run asks every backend what it holds, which is a rollout.
        ended = road.renew()
        assert ended.status == 0, ended.everything
        yield road


# A run that is cut off


def wrapped(road: Road, mode: str, where: str, delay: float = 0.0) -> tuple[int, dict[str, float]]:
    """Run a renewal in the wrapper; return its exit status, and its steps with their seconds."""
    road.spare_the_ca_a_serial()
    command = f"/opt/certsync/current/bin/python - '{mode}' '{where}' {delay:.3f}"
    status, told = road.issuer.attempt(command, input=WRAPPER, timeout=300)
    print(told)
    lines = [line.split() for line in told.splitlines() if line.startswith("took ")]
    return status, {name: float(seconds) for _, name, seconds in lines}


class Held:
    """A renewal on the issuer that waits at a boundary, inside the block at the longest."""

    def __init__(self, road: Road, boundary: Step) -> None:
        self.road, self.boundary = road, boundary
        self.folder = road.issuer.root / FOLDER.relative_to("/")

    def __enter__(self) -> Held:
        self.road.spare_the_ca_a_serial()
        self.folder.mkdir()
        (self.folder / "wrapper.py").write_text(WRAPPER)
        run = f"/opt/certsync/current/bin/python wrapper.py hold {self.boundary.name} 0"
        self.road.issuer.sh(
            f"cd {FOLDER} && nohup sh -c '{run} > told 2>&1; echo $? > ended' > /dev/null 2>&1 &"
        )
        _until(lambda: self._exists("held") or self._exists("ended"))
        assert not self._exists("ended"), self._text("told")
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder)

    def go_on(self) -> Ended:
        """Let it go on, and return how it ended."""
        (self.folder / "held").unlink()
        _until(lambda: self._exists("ended") and bool(self._text("ended")))
        told = self._text("told")
        print(told)
        return Ended(int(self._text("ended")), told, "")

    def _exists(self, name: str) -> bool:
        return (self.folder / name).exists()

    def _text(self, name: str) -> str:
        return (self.folder / name).read_text()


def _until(true: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


# What the backends hold


def fits(folder: Path) -> None:
    """Fail where a folder's private key belongs to another certificate."""
    key, certificate = folder / "privkey.pem", folder / "cert.pem"
    if key.exists() and certificate.exists():
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)


def is_whole(folder: Path) -> None:
    """Fail where a generation is not all that its manifest says."""
    sums = json.loads((folder / "manifest.json").read_text())["files"]
    assert set(sums) == PEM_FILES
    for name, expected in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected
    fits(folder)


def lives_on_a_whole_one(machine: Machine) -> None:
    """Fail unless a backend's live link leads to a generation in its archive that is whole."""
    folder = (machine.root / LIVE.lstrip("/")).resolve(strict=True)
    assert folder.parent == machine.root / ARCHIVE
    is_whole(folder)


def held(machine: Machine) -> list[Path]:
    """Return every folder on a backend in which a key may lie, but the order's."""
    root = machine.root
    patterns = (f"{ARCHIVE}/*", f"{STAGING}/*", f"{STAGING}/*/*", INBOX)
    return [each for pattern in patterns for each in root.glob(pattern) if each.is_dir()]


def kept(road: Road) -> dict[str, str]:
    """Return the generations on the issuer, whole every one, by the SHA-256 of the leaf."""
    found = {}
    for folder in (road.issuer.root / ARCHIVE).iterdir():
        is_whole(folder)
        if folder.name != PLACEHOLDER:
            found[_sha256((folder / "cert.pem").read_text())] = folder.name
    return found


def _sha256(pem: str) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def served(road: Road) -> dict[str, str]:
    """Return the generation that openssl is shown by each backend; one that is not kept fails."""
    generations = kept(road)
    return {
        machine.name: generations[_sha256(road.shown_by(machine.address))]
        for machine in road.lab.backends
    }


def all_is_sound(road: Road) -> None:
    """Fail unless what every backend holds fits together, and what it serves is one of ours."""
    for machine in road.lab.backends:
        lives_on_a_whole_one(machine)
        for folder in held(machine):
            fits(folder)
    print("served:", served(road))


# Watching meanwhile


class Watch(threading.Thread):
    """Looks all the time whether a backend holds a key that does not fit."""

    def __init__(self, road: Road) -> None:
        super().__init__()
        self.road = road
        self.over = threading.Event()
        self.found: list[str] = []
        self.rounds = 0

    def run(self) -> None:
        """Look until it is over."""
        while not self.over.wait(0.03):
            for machine in self.road.lab.backends:
                self._look(lives_on_a_whole_one, machine)
                for folder in (machine.root / ARCHIVE).glob("[0-9]" * 4):
                    self._look(fits, folder)
            self.rounds += 1

    def _look(self, check: Callable[[Subject], None], subject: Subject) -> None:
        try:
            check(subject)
        except (AssertionError, OSError, ValueError) as error:
            # A generation that is removed is gone in one rename.
            if not isinstance(subject, Path) or subject.exists():
                name = subject.name if isinstance(subject, Machine) else subject
                self.found.append(f"{name}: {error!r}")


@contextmanager
def undisturbed(
    road: Road, machines: Sequence[Machine], *, balancer: bool = True
) -> Iterator[None]:
    """Fail unless all along every request was answered, with a leaf that is kept, and keys fit."""
    before = set(kept(road))
    addresses = [machine.address for machine in machines]
    addresses += [road.lab.balancer.address] if balancer else []
    target = Target(NAME, str(road.lab.ca.roots))
    watch = Watch(road)
    watch.start()
    try:
        with Load(road.lab.operator_argv(), NEW, addresses, target, pause=0.05) as load:
            yield
            tally = load.over()
    finally:
        watch.over.set()
        watch.join()
    print(f"{tally.requests} requests, {watch.rounds} looks")
    assert watch.rounds > 0
    assert watch.found == []
    assert tally.watched
    assert tally.failed == {}
    assert set(tally.leaves) == set(addresses)
    assert tally.all_leaves <= before | set(kept(road))


# After the next run


def nothing_is_left(road: Road) -> None:
    """Fail where a run left anything behind that ends with it."""
    assert road.issuer.attempt(LEFT)[1] == "the lock is free\n"
    for machine in road.lab.backends:
        for folder in (STAGING, INBOX):
            found = machine.root / folder
            assert not found.exists() or list(found.iterdir()) == []


def no_kept_order_is_pending(road: Road) -> None:
    """Fail where a key that a generation has lies in the place of one that has none yet."""
    pending = road.issuer.root / PENDING
    manifests = [
        json.loads((folder / "manifest.json").read_text())
        for folder in (road.issuer.root / ARCHIVE).iterdir()
    ]
    order, key = pending / "order.json", pending / "privkey.pem"
    if order.exists():
        assert json.loads(order.read_text())["url"] not in [each.get("order") for each in manifests]
    if key.exists():
        digest = hashlib.sha256(key.read_bytes()).hexdigest()
        assert digest not in [each["files"]["privkey.pem"] for each in manifests]


def converges(road: Road, number: str) -> None:
    """Fail unless one hourly run has every backend serve a generation, and tidies up."""
    ended = road.renew()
    assert ended.status == 0, ended.everything
    print("converged after 1 run")
    names = [machine.name for machine in road.lab.backends]
    assert served(road) == road.generations() == dict.fromkeys(names, number)
    all_is_sound(road)
    nothing_is_left(road)
    no_kept_order_is_pending(road)


def an_order_waits(road: Road) -> bool:
    return (road.issuer.root / PENDING / "order.json").exists()


def the_next_renewal_takes_up_what_waits(road: Road) -> None:
    """Have an open order finished, which the hourly run lets wait as nothing is due."""
    if an_order_waits(road):
        after = following(newest(road))
        assert road.renew("--force").status == 0
        converges(road, after)
        assert not an_order_waits(road)


def is_past(boundary: str, step: Step) -> bool:
    """Return whether a run that was cut off at a boundary has taken a step."""
    return BOUNDARIES.index(boundary) > PLAN.index(step.name)


def newest(road: Road) -> str:
    return max(kept(road).values())


def following(number: str) -> str:
    return f"{int(number) + 1:04}"


def live_at(road: Road, boundary: str, before: str, after: str) -> dict[str, str]:
    """Return what the live links point to when a run has come to a boundary."""
    there = after if is_past(boundary, Step.ACTIVATE_REPLICAS) else before
    here = after if is_past(boundary, Step.ACTIVATE_ISSUER) else before
    return {**{machine.name: there for machine in road.replicas}, road.issuer.name: here}


# The tests


@pytest.fixture(scope="module")
def pace(road: Road) -> dict[str, float]:
    """Return the steps that an undisturbed renewal takes, and how long it takes for each."""
    status, steps = wrapped(road, "watch", "nowhere")
    assert status == 0
    return steps


def test_a_renewal_takes_the_steps_of_the_plan_in_their_order(pace: dict[str, float]) -> None:
    assert list(pace) == PLAN


@pytest.mark.matrix
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_the_run_after_one_that_was_killed_converges(road: Road, boundary: str) -> None:
    orders, before = road.lab.ca.orders(), newest(road)
    after = following(before)
    with undisturbed(road, road.lab.backends):
        status, steps = wrapped(road, "kill", boundary)
        assert status == KILLED
        assert list(steps) == PLAN[: BOUNDARIES.index(boundary)]
        all_is_sound(road)
        assert road.generations() == live_at(road, boundary, before, after)
        converges(road, after if is_past(boundary, Step.KEEP) else before)
        waiting = is_past(boundary, Step.PLACE) and not is_past(boundary, Step.KEEP)
        assert an_order_waits(road) is waiting
        the_next_renewal_takes_up_what_waits(road)
    assert road.lab.ca.orders() == orders + is_past(boundary, Step.PLACE)


@pytest.mark.matrix
@pytest.mark.parametrize("step", PLAN)
def test_the_run_after_one_that_was_killed_inside_a_step_converges(
    road: Road, pace: dict[str, float], step: str
) -> None:
    orders, before = road.lab.ca.orders(), newest(road)
    with undisturbed(road, road.lab.backends):
        status, steps = wrapped(road, "kill inside", step, pace[step] / 2)
        assert status == KILLED
        assert list(steps)[: PLAN.index(step)] == PLAN[: PLAN.index(step)]
        reached = newest(road)
        assert reached in {before, following(before)}
        converges(road, reached)
        the_next_renewal_takes_up_what_waits(road)
    assert road.lab.ca.orders() <= orders + 1


@pytest.mark.parametrize("step", [Step.LOOK.name, Step.VALIDATE.name])
def test_the_run_after_one_that_was_killed_with_a_challenge_file_out_takes_it_away(
    road: Road, step: str
) -> None:
    before = newest(road)
    status, steps = wrapped(road, "kill at challenge file", step)
    assert status == KILLED
    assert list(steps) == PLAN[: PLAN.index(step)]
    assert road.issuer.sh(f"ls -A {CHALLENGES}") != ""
    converges(road, before)
    the_next_renewal_takes_up_what_waits(road)


def test_an_issuer_that_loses_its_power_in_a_rollout_finishes_it_when_it_is_back(
    road: Road,
) -> None:
    orders, before = road.lab.ca.orders(), newest(road)
    after = following(before)
    with undisturbed(road, road.replicas, balancer=False):
        with Held(road, Step.ACTIVATE_REPLICAS):
            road.issuer.kill()
        assert road.generations() == live_at(road, Step.ACTIVATE_REPLICAS.name, before, after)
        road.issuer.boot()
        road.issuer.wait()
        all_is_sound(road)
        converges(road, after)
    assert road.lab.ca.orders() == orders + 1


def test_a_replica_that_loses_its_power_before_it_activates_is_caught_up_when_it_is_back(
    road: Road,
) -> None:
    orders, before = road.lab.ca.orders(), newest(road)
    after, lost = following(before), road.replicas[-1]
    others = [machine for machine in road.lab.backends if machine != lost]
    with undisturbed(road, others, balancer=False):
        with Held(road, Step.ACTIVATE_ISSUER) as run:
            assert (lost.root / ARCHIVE / after).exists()
            lost.kill()
            ended = run.go_on()
        assert ended.status == 1
        assert f"is not served by all backends: {lost.name}: " in ended.stdout
        reached = {machine.name: after for machine in others}
        assert road.generations() == {**reached, lost.name: before}
        lost.boot()
        lost.wait()
        all_is_sound(road)
        converges(road, after)
    assert road.lab.ca.orders() == orders + 1
