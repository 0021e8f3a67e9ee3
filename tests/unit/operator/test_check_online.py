"""What `check --online` and `add-backend` say of a host, from what was seen there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from certsync.model.epoch import Epoch
from certsync.model.fleet import Machine
from certsync.model.options import Renewal, Scheduler
from certsync.operator.hosts import epochs, host_keys
from certsync.operator.hosts.check_online import (
    Look,
    look,
    look_at_new,
    of_fleet,
    of_host,
    of_renewal,
)
from certsync.operator.hosts.facts import Adopt, HostFacts
from certsync.operator.hosts.survey import Entry, Survey, Unit, parse
from certsync.system import ssh
from certsync.system.process import Completed
from tests.unit.fake_fleet import NOW, fleet

FLEET = fleet()
FIT = HostFacts(os=("debian", "13"), time=int(NOW.timestamp()), disk_mb=5000, python=(3, 13))


def told(seen: HostFacts, adopt: Adopt | None = None) -> list[str]:
    found = of_host(FLEET, FLEET.backends[1], seen, NOW, adopt or Adopt())
    return [each.full() for each in found]


def test_a_host_that_is_fit_has_nothing_said_of_it() -> None:
    assert told(FIT) == []
    assert told(replace(FIT, disk_mb=None)) == []


def test_a_disk_that_is_nearly_full_is_told_with_what_makes_room() -> None:
    assert told(replace(FIT, disk_mb=99)) == [
        (
            "backend-02: its disk has 99 MB free; 100 MB are needed\n"
            "  hint: free some space: apt-get clean, journalctl --vacuum-size=100M; see df -h"
        )
    ]


def test_an_unknown_system_is_told_with_those_that_are_known() -> None:
    assert told(replace(FIT, os=("gentoo", "2"))) == [
        (
            "backend-02: it runs gentoo 2, which certsync does not support\n"
            "  hint: use Debian 12 or 13, or Ubuntu 22.04, 24.04 or 26.04"
        )
    ]


def test_a_system_without_a_version_is_told_without_a_gap() -> None:
    # Debian testing and unstable, and distributions that never have one.
    unknown = parse(["os debian ", f"time {FIT.time}"]).facts
    assert told(replace(FIT, os=unknown.os)) == [
        (
            "backend-02: it runs debian without a version number, which certsync does not support\n"
            "  hint: use Debian 12 or 13, or Ubuntu 22.04, 24.04 or 26.04"
        )
    ]


def test_a_clock_that_is_off_is_told_with_its_side() -> None:
    assert told(replace(FIT, time=FIT.time - 600)) == [
        (
            "backend-02: its clock is 10 minutes behind this machine's\n"
            "  hint: timedatectl set-ntp true"
        )
    ]


def test_somebodys_site_is_told_unless_it_may_be_taken_over() -> None:
    seen = replace(FIT, nginx_sites=(("foreign", "/etc/nginx/sites-enabled/theirs"),))
    assert "an nginx site that certsync did not write" in told(seen)[0]
    assert told(seen, Adopt(nginx=True)) == []


def test_a_host_that_joins_is_looked_at_with_the_issuers_way_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, new, third = FLEET.backends
    issuer = FLEET.issuer

    def on(machine: Machine, _known: str, command: str) -> Completed:
        if "sshd -T" in command:
            return Completed(0, "allowusers root\n", "")
        if "/dev/tcp" in command:
            assert new.private_address in command
            assert third.private_address not in command
            return Completed(0, f"to {new.private_address} refused\n", "")
        disk = 5 if machine == issuer else 5000
        now = int(NOW.timestamp())
        return Completed(0, f"os debian 13\ntime {now}\ndisk {disk}\npython 3.13\n", "")

    monkeypatch.setattr(ssh, "on", on)
    found = look_at_new(FLEET, [new], NOW, Adopt())
    assert [each.host for each in found] == [new.name, issuer.name]
    assert "AllowUsers root" in found[0].text
    assert f"it does not reach {new.name}" in found[1].text


def test_a_limit_on_ssh_is_told_of_every_backend() -> None:
    limited = replace(FIT, limited=("OpenSSH",))
    [found] = of_host(FLEET, FLEET.backends[1], limited, NOW)
    assert (found.stops, "from 203.0.113.11 to any port 22" in found.hint) == (True, True)
    [found] = of_host(FLEET, FLEET.issuer, limited, NOW)
    assert (found.stops, "once another is the issuer" in found.text) == (False, True)
    assert of_host(FLEET, FLEET.balancers[0], limited, NOW) == []


def looked(monkeypatch: pytest.MonkeyPatch, done: Completed) -> Look:
    monkeypatch.setattr(ssh, "on", lambda *_: done)
    return look(FLEET, FLEET.backends[1], NOW)


@pytest.mark.parametrize(
    ("done", "why"),
    [
        (Completed(2, "", "sh: 22: .: cannot open /etc/os-release"), "sh: 22: .: cannot open"),
        (Completed(1, "os debian 13\n", ""), "exit status 1 without a word"),
        (Completed(0, f"time {int(NOW.timestamp())}\n", ""), "exit status 0 without a word"),
    ],
)
def test_a_survey_that_did_not_run_says_nothing_of_clock_and_system(
    monkeypatch: pytest.MonkeyPatch, done: Completed, why: str
) -> None:
    seen = looked(monkeypatch, done)
    [found] = seen.findings
    assert found.text.startswith(f"the survey did not run: {why}"[:60])
    assert found.hint
    assert seen.seen is None


def test_what_is_wrong_between_hosts_is_told_before_a_deploy_finds_it() -> None:
    of = "f1" * 16
    key = Entry("f", text="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPUt root@x")
    pub = {"/etc/ssh/ssh_host_ed25519_key.pub": key}
    issuer = Survey(entries={epochs.MARKER: Entry("f", text=f"{Epoch(1, of)}\n"), **pub})
    later = Survey(entries={epochs.KEYS: Entry("f", text=f"# {Epoch(2, of)}\nkey\n"), **pub})
    found = of_fleet(FLEET, {"backend-01": issuer, "backend-02": later})
    assert [each.stops for each in found] == [True, False]
    assert "accepts the issuer of epoch 2" in found[0].text
    assert found[1].text == host_keys.SAME.format("backend-01")


def test_a_repository_of_etc_keeps_private_keys_of_backends_alone() -> None:
    kept = replace(FIT, history="git")
    [finding] = of_host(FLEET, FLEET.backends[1], kept, NOW)
    assert not finding.stops
    assert finding.text.startswith("/etc is a git repository (etckeeper's?), which keeps")
    assert "echo /certsync/ >> /etc/.gitignore; git -C /etc rm -r --cached" in finding.hint
    assert of_host(FLEET, FLEET.balancers[0], kept, NOW) == []


def test_an_expired_password_of_root_keeps_cron_from_renewing_on_the_issuer() -> None:
    expired = replace(FIT, expired=("root", "admin"))
    [root, admin] = of_host(FLEET, FLEET.issuer, expired, NOW)
    # A deploy succeeds there all the same.
    assert (root.stops, admin.stops) == (False, False)
    assert root.text == (
        "the password or the account of root has expired, so cron runs nothing for root"
    )
    assert root.hint == 'as root there: chage -d "$(date +%F)" -M -1 -E -1 root'
    assert "account of admin has expired" in admin.text
    with_timer = replace(FLEET, renewal=Renewal(scheduler=Scheduler.SYSTEMD))
    elsewhere = of_host(FLEET, FLEET.backends[1], expired, NOW)
    assert not any("cron" in each.text for each in elsewhere)
    assert not any("cron" in each.text for each in of_host(with_timer, FLEET.issuer, expired, NOW))


@pytest.mark.parametrize(
    ("state", "told"),
    [("active:enabled:no:", 0), ("inactive:disabled:no:", 1), ("inactive:masked:no:", 1),
     ("active:disabled:no:", 1)],
)  # fmt: skip
def test_a_cron_that_does_not_run_is_told_of_the_issuer(state: str, told: int) -> None:
    seen = parse([f"unit cron.service {state}", "package cron install ok installed"])
    found = of_renewal(FLEET, FLEET.issuer, seen)
    assert len(found) == told
    assert all("systemctl enable --now cron" in each.hint for each in found)
    assert all(("unmask" in each.hint) == ("masked" in state) for each in found)
    assert not any(each.stops for each in found)
    assert of_renewal(FLEET, FLEET.backends[1], seen) == []
    assert of_renewal(FLEET, FLEET.issuer, replace(seen, packages=frozenset())) == []


def test_a_timer_that_does_not_run_is_told_once_it_is_there() -> None:
    with_timer = replace(FLEET, renewal=Renewal(scheduler=Scheduler.SYSTEMD))
    there = {"/etc/systemd/system/certsync-renew.timer": Entry("f")}
    stopped = Survey(entries=there)
    [found] = of_renewal(with_timer, FLEET.issuer, stopped)
    assert found.text.startswith("certsync-renew.timer does not run")
    runs = {"certsync-renew.timer": Unit("active", "enabled", is_outdated=False)}
    assert of_renewal(with_timer, FLEET.issuer, replace(stopped, units=runs)) == []
    assert of_renewal(with_timer, FLEET.issuer, Survey()) == []
