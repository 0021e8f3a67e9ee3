"""Which sites a backend's nginx has, and how they listen, where some are a person's own."""

from __future__ import annotations

import re

import pytest

from certsync.model.fleet import Fleet
from certsync.model.options import Site, SiteKind
from certsync.operator.rendering import templates
from tests.unit.fake_fleet import NAME, fleet, lineage

OWN = Site(kind=SiteKind.UNMANAGED)


def with_shop(site: Site = OWN) -> Fleet:
    """Return a fleet with a second lineage."""
    shop = lineage("shop.example.com", serving=("backend-01",), site=site)
    return fleet(lineages=(lineage(), shop))


def test_the_default_server_is_on_where_all_sites_are_ours_and_the_distributions_is_off() -> None:
    made = with_shop(Site())
    assert templates.sites(made, made.backends[1]) == {
        f"certsync-{NAME}.conf": True, "certsync-shop.example.com.conf": False,
        "certsync-default.conf": True, "default": False,
    }  # fmt: skip


def test_the_default_server_is_switched_off_when_one_site_is_no_longer_ours() -> None:
    made = with_shop()
    assert templates.sites(made, made.issuer) == {
        f"certsync-{NAME}.conf": True, "certsync-default.conf": False,
    }  # fmt: skip
    alone = fleet(site=OWN)
    assert templates.sites(alone, alone.issuer) == {"certsync-default.conf": False}


@pytest.mark.parametrize(("directive", "flags"), [(True, "ssl"), (False, "ssl http2")])
def test_http_2_on_the_second_port_is_as_on_the_first_where_the_site_is_ours(
    directive: bool, flags: str
) -> None:
    made = templates.nginx(with_shop(), fleet().issuer, http2_directive=directive)
    ours = made[f"snippets/ssl-{NAME}.conf"]
    assert re.findall(r"(?m)^listen .*;$", ours) == [
        f"listen 8443 {flags} proxy_protocol;", f"listen [::]:8443 {flags} proxy_protocol;",
    ]  # fmt: skip
    # A second `http2 on;` in a server block is one too many for nginx.
    theirs = made["snippets/ssl-shop.example.com.conf"]
    assert "listen 8443 ssl http2 proxy_protocol;" in theirs
    assert not re.search(r"(?m)^ *http2 on;", theirs)
