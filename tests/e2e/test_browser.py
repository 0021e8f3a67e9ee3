"""A real browser opens the site by its name, as the people do for whom all of it is."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab
from lab.world import CHECKOUT
from tests.e2e.browser import Browser
from tests.e2e.conftest import BringUp
from tests.e2e.road import NAME, Road

KEPT = CHECKOUT / "build/artifacts"
PATIENCE = 300


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return the tutorial's fleet, deployed."""
    with bring_up(Lab("browser"), prepared=True) as lab:
        road = Road(lab, tmp_path_factory.mktemp("browser"))
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        yield road


@pytest.fixture
def browser(road: Road, tmp_path: Path) -> Iterator[Browser]:
    """Return a browser that trusts the test CA, and ends whatever it hangs at."""

    def ended(*_: object) -> None:
        raise TimeoutError("the browser does not answer")

    before = signal.signal(signal.SIGALRM, ended)
    signal.alarm(PATIENCE)
    try:
        with Browser(road.lab.operator_argv(), tmp_path, road.lab.ca.roots) as browser:
            yield browser
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_browser_calls_the_page_secure_and_comes_to_every_backend_in_its_colour(
    road: Road, browser: Browser
) -> None:
    seen: dict[str, str] = {}
    wanted = {machine.name for machine in road.backends}
    for _ in range(20):
        page = browser.open(f"https://{NAME}/lb.html")
        assert page.address == f"https://{NAME}/lb.html"
        assert page.secure
        assert page.protocol == "h2"
        seen[page.title] = page.colour
        KEPT.mkdir(parents=True, exist_ok=True)
        (KEPT / f"{page.title}.png").write_bytes(page.screenshot)
        if set(seen) == wanted:
            break
    assert set(seen) == wanted
    assert len(set(seen.values())) == len(wanted)
    assert all((KEPT / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in wanted)


def test_a_name_that_is_not_on_the_certificate_is_not_secure(browser: Browser, road: Road) -> None:
    road.lab.ca.set_address("else.example.org", ipv4=[road.lab.balancer.address], ipv6=[])
    with pytest.raises(AssertionError, match="ERR_CERT_COMMON_NAME_INVALID"):
        browser.open("https://else.example.org/lb.html")
