"""A fleet that certbot has served until now: taken over without an order, and certbot goes on."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

import pytest

from lab import Lab, Machine
from tests.e2e.conftest import BringUp
from tests.e2e.road import LINEAGE, NAME, Road, state

OTHER = "shop.example.net"
HOME = "/etc/letsencrypt"
RENEWAL = f"{HOME}/renewal/{NAME}.conf"
OLD_SITE = f"""\
server {{
    listen 443 ssl;
    server_name {NAME};
    ssl_certificate {HOME}/live/{NAME}/fullchain.pem;
    ssl_certificate_key {HOME}/live/{NAME}/privkey.pem;
}}
"""


class Certbot:
    """Debian's certbot on the first backend, as people have it."""

    def __init__(self, road: Road) -> None:
        self.road, self.machine = road, road.issuer
        bundle = road.lab.ca.bundle.read_text()
        self.machine.sh("cat > /etc/ssl/lab-ca.pem", input=bundle)
        self.machine.sh("apt-get install -y -qq nginx certbot", timeout=300)

    def run(self, words: str) -> str:
        """Run certbot and return what it says."""
        return self.machine.sh(
            f"REQUESTS_CA_BUNDLE=/etc/ssl/lab-ca.pem certbot -n {words}", timeout=300
        )

    def obtain(self, words: str) -> None:
        """Have a certificate."""
        server = self.road.lab.ca.directory
        account = "--agree-tos --register-unsafely-without-email"
        self.run(f"certonly --server {server} {account} {words}")

    def fingerprint(self, lineage: str = NAME) -> str:
        """Return the fingerprint of a lineage's certificate."""
        return fingerprint(self.machine, f"{HOME}/live/{lineage}/cert.pem")

    def renewal(self, lineage: str = NAME) -> str:
        """Return what certbot renews a lineage by."""
        return (self.machine.root / f"etc/letsencrypt/renewal/{lineage}.conf").read_text()


def fingerprint(machine: Machine, path: str) -> str:
    return machine.sh(f"openssl x509 -noout -fingerprint -sha256 -in {path}")


def lead_to(road: Road, machine: Machine, *names: str) -> None:
    """Have names lead to a machine."""
    for name in names:
        road.lab.ca.set_address(name, ipv4=[machine.address], ipv6=[machine.address6])


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet of which only certbot on the first backend knows, and copies by hand."""
    with bring_up(Lab("adopt")) as lab:
        # Debian's certbot tries a refused nonce once again and no more.
        lab.ca.restart({"PEBBLE_WFE_NONCEREJECT": "0"})
        yield Road(lab, tmp_path_factory.mktemp("adopt"))


@pytest.fixture(scope="module")
def certbot(road: Road) -> Certbot:
    """Return certbot with two lineages; the replicas have copies of an older certificate."""
    found, www = Certbot(road), f"www.{NAME}"
    lead_to(road, road.issuer, NAME, www, OTHER)
    # One through nginx's default site; one by itself, while nginx stands aside.
    webroot = f"--webroot -w /var/www/html --cert-name {NAME} -d {NAME} -d {www}"
    found.obtain(webroot)
    hooks = "--pre-hook 'systemctl stop nginx' --post-hook 'systemctl start nginx'"
    found.obtain(f"--standalone {hooks} -d {OTHER}")
    pems = {
        name: found.machine.sh(f"cat {HOME}/live/{NAME}/{name}")
        for name in ("privkey.pem", "fullchain.pem")
    }
    for replica in road.replicas:
        replica.sh(f"apt-get install -y -qq nginx; mkdir -p {HOME}/live/{NAME}", timeout=300)
        for name, text in pems.items():
            (replica.root / f"etc/letsencrypt/live/{NAME}/{name}").write_text(text)
        (replica.root / "etc/nginx/sites-enabled/old").write_text(OLD_SITE)
        replica.sh("nginx -t -q && systemctl reload nginx")
    found.obtain(f"--force-renewal {webroot}")
    for lineage in (NAME, OTHER):
        # Due in every run from now on.
        found.machine.sh(
            f"sed -i '1i renew_before_expiry = 200 days' {HOME}/renewal/{lineage}.conf"
        )
    lead_to(road, road.lab.balancer, NAME, www)
    return found


def served(road: Road, address: str) -> str:
    """Return the fingerprint of what an address shows."""
    (road.folder / "shown.pem").write_text(road.shown_by(address))
    done = road.operator(
        "openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in",
        str(road.folder / "shown.pem"),
    )  # fmt: skip
    return done.stdout


def test_what_would_have_to_be_ordered_anew_is_refused_before_any_change(
    road: Road, certbot: Certbot
) -> None:
    before, renewal = state(road.lab), certbot.renewal()
    road.edit("[ca]\n", '[certificate]\nkey_type = "rsa-2048"\n\n[ca]\n')
    ended = road.certsync("adopt", "--adopt-nginx")
    road.edit('[certificate]\nkey_type = "rsa-2048"\n\n', "")
    assert ended.status == 1
    told = "has a key of type ecdsa-p256, but the fleet file says rsa-2048"
    assert f"error: certbot's {NAME} {told}" in ended.stderr
    assert 'hint: set key_type = "ecdsa-p256" under [certificate], adopt, then' in ended.stderr
    road.edit(f'"{NAME}", "www.{NAME}"', f'"{OTHER}.cc", "www.{NAME}"')
    ended = road.certsync("adopt", "--adopt-nginx")
    road.edit(f'"{OTHER}.cc", "www.{NAME}"', f'"{NAME}", "www.{NAME}"')
    assert ended.status == 1
    assert f"certbot has no lineage {OTHER}.cc on the issuer: it has {NAME}, {OTHER}" in (
        ended.stderr
    )
    assert (state(road.lab), certbot.renewal()) == (before, renewal)


def test_a_dry_run_changes_nothing_and_names_the_last_step(road: Road, certbot: Certbot) -> None:
    before, orders = state(road.lab), road.lab.ca.orders()
    ended = road.certsync("adopt", "--adopt-nginx", "--dry-run")
    assert ended.status == 0, ended.everything
    assert "Take over the certificate: backend-01" in ended.stdout
    assert f"write autorenew = False into {RENEWAL}" in ended.stdout
    assert "Order the certificate" not in ended.stdout
    place = "/etc/nginx/sites-enabled/old:4: ssl_certificate"
    assert f"  backend-02: {place} {HOME}/live/{NAME}/fullchain.pem;" in ended.stderr
    assert (state(road.lab), road.lab.ca.orders()) == (before, orders)
    assert "autorenew" not in certbot.renewal()


def test_while_a_backend_is_not_proven_certbot_goes_on_renewing(
    road: Road, certbot: Certbot
) -> None:
    orders, renewal = road.lab.ca.orders(), certbot.renewal()
    road.replicas[1].cut()
    try:
        ended = road.certsync("adopt", "--adopt-nginx")
    finally:
        road.replicas[1].join()
    assert ended.status == 1
    assert "backend-03: unreachable over SSH" in ended.stderr
    assert certbot.renewal() == renewal
    assert road.lab.ca.orders() == orders


def test_the_fleet_serves_certbots_certificate_and_nothing_was_ordered(
    road: Road, certbot: Certbot
) -> None:
    orders, renewal = road.lab.ca.orders(), certbot.renewal()
    snippet = road.issuer.root / "etc/nginx/snippets/mine.conf"
    snippet.write_text(f"ssl_trusted_certificate {HOME}/live/{NAME}/chain.pem;\n")
    facts = road.issuer.sh(f"stat -c '%a %U %G' {RENEWAL}")
    ended = road.as_announced("adopt", "--adopt-nginx")
    assert ended.status == 0, ended.everything
    balancer = road.lab.balancer
    addresses = [machine.address for machine in road.lab.backends]
    shown = {served(road, each) for each in (*addresses, balancer.address, balancer.address6)}
    assert shown == {certbot.fingerprint()}
    assert set(road.generations().values()) == {"0001"}
    assert road.pages() == {machine.name for machine in road.lab.backends}
    assert road.lab.ca.orders() == orders
    diff = list(difflib.ndiff(renewal.splitlines(True), certbot.renewal().splitlines(True)))
    assert [line for line in diff if not line.startswith("  ")] == ["+ autorenew = False\n"]
    assert road.issuer.sh(f"stat -c '%a %U %G' {RENEWAL}") == facts
    assert f"{RENEWAL}: autorenew = False, so that certbot no longer renews {NAME}" in ended.stderr
    assert "to undo this, remove that line from [renewalparams]" in ended.stderr
    assert "autorenew" not in certbot.renewal(OTHER)
    told = "  backend-01: /etc/nginx/snippets/mine.conf:1: ssl_trusted_certificate"
    assert told in ended.stderr
    assert f"hint: replace them with `include snippets/ssl-{NAME}.conf;`" in ended.stderr
    snippet.unlink()


def test_nothing_is_due_and_a_second_adoption_changes_nothing(road: Road, certbot: Certbot) -> None:
    orders, renewal = road.lab.ca.orders(), certbot.renewal()
    assert "an order would be placed" not in road.on_issuer("renew", "--dry-run").stdout
    ended = road.certsync("adopt")
    assert ended.status == 0, ended.everything
    assert "\n0 changes\n" in ended.stderr
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert "\n0 changes\n" in ended.stderr
    assert (road.lab.ca.orders(), certbot.renewal()) == (orders, renewal)
    assert road.issuer.sh(f"ls {LINEAGE}") == "0000\n0001\n"


def test_certbot_renews_its_other_lineage_and_leaves_this_one_alone(
    road: Road, certbot: Certbot
) -> None:
    ours, other = certbot.fingerprint(), certbot.fingerprint(OTHER)
    # Without the option it sleeps for minutes where no terminal is.
    renew = "renew --no-random-sleep-on-renew"
    certbot.run(renew)
    renewed = certbot.fingerprint(OTHER)
    assert renewed != other
    assert certbot.fingerprint() == ours
    certbot.run(f"{renew} --force-renewal --cert-name {OTHER}")
    assert certbot.fingerprint(OTHER) != renewed
    assert certbot.fingerprint() == ours
    assert served(road, road.lab.balancer.address) == ours


def test_certsync_renews_it_from_then_on(road: Road, certbot: Certbot) -> None:
    ended = road.renew("--force")
    assert ended.status == 0, ended.everything
    assert "ordered generation 0002" in ended.stdout
    assert set(road.generations().values()) == {"0002"}
    new = fingerprint(road.issuer, f"{LINEAGE}/0002/cert.pem")
    assert served(road, road.lab.balancer.address) == new != certbot.fingerprint()
    # Certbot's copy is older than ours by now: it is not taken over again.
    ended = road.certsync("adopt")
    assert ended.status == 0, ended.everything
    assert set(road.generations().values()) == {"0002"}
