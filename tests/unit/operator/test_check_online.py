"""What `check --online` and `add-backend` say of a host, from what was seen there."""

from __future__ import annotations

from dataclasses import replace

from certsync.operator.hosts.check_online import of_host
from certsync.operator.hosts.facts import Adopt, HostFacts
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
