"""The heartbeat asks for its URL, ends no run, and tells no more of the URL than its host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from certsync.issuer.monitoring import heartbeat
from tests.unit.fake_web import Web, web

SECRET = "swordfish"


@pytest.fixture
def monitor() -> Iterator[Web]:
    with web() as server:
        yield server


def beat(monitor: Web) -> str:
    return heartbeat.ping(f"http://{monitor.host}/{SECRET}?key={SECRET}")


def test_a_heartbeat_is_one_request_for_the_whole_url(monitor: Web) -> None:
    assert beat(monitor) == ""
    assert monitor.asked == [(f"/{SECRET}?key={SECRET}", "")]


@pytest.mark.parametrize("status", [404, 500])
def test_a_monitor_that_refuses_is_told_with_its_answer(monitor: Web, status: int) -> None:
    monitor.status = status
    assert beat(monitor) == (f"the heartbeat to http://127.0.0.1 failed: it answers {status}")


def test_a_monitor_that_is_not_there_is_told_with_the_systems_reason() -> None:
    with web() as monitor:
        pass
    told = beat(monitor)
    assert told == "the heartbeat to http://127.0.0.1 failed: Connection refused"


def test_a_monitor_that_says_nothing_is_not_waited_for_long(
    monitor: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "SECONDS", 0.2)
    monitor.status = None
    assert "no answer within 0.2 seconds" in beat(monitor)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "/" + SECRET])
def test_a_redirect_that_leads_nowhere_is_told_without_its_target(
    monitor: Web, target: str
) -> None:
    monitor.status = 302
    monitor.location = target
    assert beat(monitor) == "the heartbeat to http://127.0.0.1 failed: it answers 302"


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://127.0.0.1/{SECRET}",
        f"http:///{SECRET}",
        f"file:///{SECRET}",
        f"http://[::1/{SECRET}",
        f"http://127.0.0.1:1/{SECRET} {SECRET}",
        f"http://127.0.0.1:port/{SECRET}",
        f"http://127.0.0.1:1/{SECRET}ü",
        SECRET,
        "",
    ],
)
def test_whatever_the_url_is_nothing_is_raised_and_its_secret_is_not_told(
    url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    told = heartbeat.ping(url)
    assert told
    assert SECRET not in told
    assert capfd.readouterr() == ("", "")
