"""What certbot has, and when it becomes a generation of ours: rules, and real files on a disk."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from certsync.issuer.commands import take_over as verb
from certsync.issuer.memory import Memory
from certsync.issuer.run import Run, Session, Tell
from certsync.issuer.schedule import issuance_due
from certsync.issuer.store import Store
from certsync.model import certbot
from certsync.model.certbot import Mention, Public
from certsync.model.certificate import Certificate
from certsync.model.errors import RefusedError, StoreError
from certsync.model.fleet import LETSENCRYPT, LETSENCRYPT_STAGING, Authority, Fleet
from certsync.model.generation import Manifest
from certsync.model.options import KeyType
from certsync.operator.commands import adopt
from certsync.operator.commands.adopt import read
from certsync.operator.deployment.plan import Step
from certsync.operator.deployment.request import Options
from tests.unit.fake_fleet import DIRECTORY, NAME, NOW, fleet, lineage, manifest

RENEWAL = f"""\
# renew_before_expiry = 30 days
version = 4.0.0
archive_dir = /etc/letsencrypt/archive/{NAME}

# Options used in the renewal process
[renewalparams]
account = 0123456789abcdef
authenticator = webroot
server = {DIRECTORY}
key_type = ecdsa
[[webroot_map]]
{NAME} = /var/www/html
"""
WITH_LINE = RENEWAL.replace("[renewalparams]\n", "[renewalparams]\nautorenew = False\n")


def certificate(**changes: object) -> Certificate:
    values: dict[str, object] = {
        "leaf_pem": "", "chain_pem": "", "chain_der": (b"leaf", b"intermediate"), "names": (NAME,),
        "not_before": NOW - timedelta(days=30), "not_after": NOW + timedelta(days=60),
        "key_type": KeyType.ECDSA_P256, "public_key": b"", **changes,
    }  # fmt: skip
    return Certificate(**values)  # type: ignore[arg-type]  # a test's shorthand


# What is refused


@pytest.mark.parametrize(
    ("held", "message", "hint"),
    [
        pytest.param(
            Public(certificate(), LETSENCRYPT_STAGING),
            f"certbot's {NAME} is from Let's Encrypt's staging CA, which browsers do not trust, "
            f"but the fleet file names {DIRECTORY}",
            "certsync does not take over another CA's certificate: `certsync deploy FLEET` orders "
            "one",
            id="staging",
        ),
        pytest.param(
            Public(certificate(), LETSENCRYPT),
            f"certbot's {NAME} is from letsencrypt, but the fleet file names {DIRECTORY}",
            "certsync does not take over another CA's certificate: `certsync deploy FLEET` orders "
            "one",
            id="another CA",
        ),
        pytest.param(
            Public(certificate(), ""),
            f"certbot's {NAME} is from a CA that its renewal file does not name, but the fleet "
            f"file names {DIRECTORY}",
            "certsync does not take over another CA's certificate: `certsync deploy FLEET` orders "
            "one",
            id="no CA",
        ),
        pytest.param(
            Public(certificate(names=("a.example", NAME)), DIRECTORY),
            f"certbot's {NAME} is for a.example, {NAME}, but the fleet file lists {NAME}",
            "put the same names in the fleet file, adopt, then change them",
            id="other names",
        ),
        pytest.param(
            Public(certificate(not_after=NOW), DIRECTORY),
            f"certbot's {NAME} expired on 2026-11-21 12:00 UTC",
            "`certsync deploy FLEET` orders a new certificate instead",
            id="expired",
        ),
        pytest.param(
            Public(certificate(key_type=KeyType.RSA_2048), DIRECTORY),
            f"certbot's {NAME} has a key of type rsa-2048, but the fleet file says ecdsa-p256",
            'set key_type = "rsa-2048" under [certificate], adopt, then change it',
            id="another type of key",
        ),
        pytest.param(
            Public(certificate(key_type=None), DIRECTORY),
            f"certbot's {NAME} has a key type that certsync does not support",
            "`certsync deploy FLEET` orders a new certificate instead",
            id="a kind of key that is not ours",
        ),
    ],
)
def test_what_would_be_ordered_anew_at_once_is_refused(
    held: Public, message: str, hint: str
) -> None:
    with pytest.raises(StoreError) as caught:
        certbot.refuse_unfit(fleet(), lineage(), held, NOW)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_what_the_fleet_file_asks_for_is_fit() -> None:
    certbot.refuse_unfit(fleet(), lineage(), Public(certificate(), DIRECTORY), NOW)


def test_a_lineage_that_is_not_there_is_told_with_those_that_are() -> None:
    error = certbot.missing(NAME, ["shop.example", "mail.example"])
    assert error.message == (
        f"certbot has no lineage {NAME} on the issuer: it has mail.example, shop.example"
    )
    assert "the first name in the fleet file" in error.hint
    assert certbot.missing(NAME, []).message.endswith("on the issuer: it has none")


def test_what_is_kept_or_older_than_what_is_kept_is_taken_already() -> None:
    held = Public(certificate(), DIRECTORY)
    same = manifest(fingerprint=held.certificate.fingerprint, age=30)
    assert certbot.is_taken(held, [same])
    assert certbot.is_taken(held, [manifest(age=3)])
    assert not certbot.is_taken(held, [manifest(age=50)])
    assert not certbot.is_taken(held, [])


# The renewal file


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (RENEWAL, DIRECTORY),
        (RENEWAL.replace(DIRECTORY, f'"{DIRECTORY}"  # ours'), DIRECTORY),
        (RENEWAL.replace("server = ", "# server = "), ""),
        (f"server = {DIRECTORY}\n", ""),
        ("", ""),
    ],
    ids=["as certbot writes it", "quoted", "commented out", "elsewhere", "empty"],
)
def test_the_ca_is_the_one_that_the_section_names(text: str, found: str) -> None:
    assert certbot.server(text) == found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(RENEWAL, WITH_LINE, id="none before"),
        pytest.param(
            RENEWAL.replace("\n", "\r\n"), WITH_LINE.replace("\n", "\r\n"), id="other line ends"
        ),
        pytest.param(
            RENEWAL.replace("authenticator", "autorenew = True\nauthenticator"),
            RENEWAL.replace("authenticator", "autorenew = False\nauthenticator"),
            id="one that is changed",
        ),
        pytest.param(WITH_LINE, WITH_LINE, id="done already"),
        pytest.param(
            WITH_LINE.replace("False", "no"), WITH_LINE.replace("False", "no"), id="in other words"
        ),
        pytest.param("[renewalparams]", "[renewalparams]\nautorenew = False\n", id="cut short"),
    ],
)
def test_one_line_and_no_other_has_certbot_renew_it_no_more(before: str, after: str) -> None:
    assert certbot.not_renewed(before) == after


def test_a_line_in_another_section_is_none() -> None:
    text = f"{RENEWAL}autorenew = True\n"
    assert certbot.not_renewed(text) == f"{WITH_LINE}autorenew = True\n"


def test_a_file_without_the_section_is_refused() -> None:
    with pytest.raises(StoreError, match=r"has no \[renewalparams\]"):
        certbot.not_renewed("version = 4.0.0\n")


# nginx


def test_lines_that_name_certbots_files_are_found_and_comments_are_not() -> None:
    output = (
        "/etc/nginx/sites-enabled/shop:12:    ssl_certificate /etc/letsencrypt/live/x/a.pem;\n"
        "/etc/nginx/sites-enabled/shop:13:    # ssl_certificate /etc/letsencrypt/live/x/b.pem;\n"
    )
    assert certbot.mentions("web-1", output) == [
        Mention("web-1", "/etc/nginx/sites-enabled/shop:12",
                "ssl_certificate /etc/letsencrypt/live/x/a.pem;")
    ]  # fmt: skip


def test_what_the_operators_machine_reads_is_what_the_script_prints() -> None:
    kept = manifest()
    seen = read(
        "live/a/fullchain.pem YQ==\nmanifest e30=\n"
        f"manifest {_base64(kept.to_json())}\nrenewal/a.conf Yg==\n"
    )
    assert seen.files == {"live/a/fullchain.pem": "a", "renewal/a.conf": "b"}
    assert seen.kept == (kept,)


def test_a_fleet_of_several_lineages_adopts_before_it_has_them(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(f"""
names = ["{NAME}"]
public_addresses = ["203.0.113.10"]
[ca]
agree_to_terms = true
[lineages.shop]
names = ["shop.example.net"]
[balancers.balancer]
address = "203.0.113.10"
[backends.backend-01]
address = "203.0.113.11"
""")
    done = list[Step]()
    for work in (
        lambda: adopt.plan(path, Options(), NOW),
        lambda: adopt.adopt(path, Options(), lambda: NOW, done),
    ):
        with pytest.raises(RefusedError) as caught:
            work()
        assert caught.value.message == (
            f"{path} has lineages besides {NAME}, and adopt takes over one certificate only; "
            "nothing was changed"
        )
        assert caught.value.hint == (
            "adopt first without the [lineages.NAME] tables; then add them and run certsync deploy "
            f"{path}, which orders the missing certificates"
        )
    assert done == []


def _base64(content: bytes) -> str:
    import base64

    return base64.b64encode(content).decode()


# On a disk


def openssl(*argv: str | Path) -> None:
    subprocess.run(["openssl", *map(str, argv)], check=True, capture_output=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return certbot's folder with one lineage: a leaf, and the CA's certificate as its chain."""
    home = tmp_path / "letsencrypt"
    live = home / "live" / NAME
    live.mkdir(parents=True)
    (home / "renewal").mkdir()
    (home / "renewal" / f"{NAME}.conf").write_text(RENEWAL)
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
    openssl("req", "-x509", *new, "-subj", "/CN=CA", "-keyout", tmp_path / "ca.key",
            "-out", live / "chain.pem")  # fmt: skip
    openssl("req", "-x509", *new, "-subj", "/CN=leaf", "-CA", live / "chain.pem", "-CAkey",
            tmp_path / "ca.key", "-addext", f"subjectAltName=DNS:{NAME}", "-keyout",
            live / "privkey.pem", "-out", live / "cert.pem")  # fmt: skip
    whole = (live / "cert.pem").read_text() + (live / "chain.pem").read_text()
    (live / "fullchain.pem").write_text(whole)
    return home


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return an issuer's store with the tutorial's fleet, alone in the world."""
    from certsync.issuer.ca import before_order
    from certsync.programs import receiver

    monkeypatch.setattr(receiver, "HOME", tmp_path / "certsync")
    monkeypatch.setattr(before_order, "free_number", lambda run: 1 + len(run.seen.numbers))
    found = Store(tmp_path / "certsync", tmp_path / "state")
    found.root.mkdir()
    found.fleet_file.write_text(json.dumps(fleet().to_json()))
    return found


def today() -> datetime:
    return datetime.now(timezone.utc)


def run_on(store: Store, tell: Tell = print) -> Run:
    return Session(store, Memory(store), today(), tell).only()


def test_certbots_certificate_becomes_a_generation_and_nothing_is_due(
    store: Store, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb.look, "__defaults__", (home,))
    found = verb.look(run_on(store).seen, today())
    assert found.steps() == [
        f"keep certbot's certificate {found.public.certificate.fingerprint[:12]} as a generation"
    ]
    said: list[str] = []
    assert verb.take_over(run_on(store, said.append)) == 1
    assert said[0].startswith("generation 0001: ")
    kept = store.kept(NAME)[1].manifest
    assert (kept.account, kept.directory, kept.names) == ("", DIRECTORY, (NAME,))
    assert kept.fingerprint == found.public.certificate.fingerprint
    assert kept.renewal_id == found.public.certificate.renewal_id != ""
    assert issuance_due(kept, store.fleet(), lineage(), today()) is None
    assert store.files(NAME, 1)["fullchain.pem"] == (
        (home / "live" / NAME / "fullchain.pem").read_bytes()
    )


def test_an_order_of_ours_does_not_say_that_it_replaces_certbots(kept: Manifest) -> None:
    from certsync.issuer.ca.issuance.obtain import replaced

    assert replaced(kept, DIRECTORY, lineage(), "https://ca.example/account/1") == ""


@pytest.fixture
def kept() -> Manifest:
    """Return the manifest of what was taken over."""
    return manifest(account="", renewal_id="aki.serial")


def test_a_second_time_nothing_is_kept(
    store: Store, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb.look, "__defaults__", (home,))
    assert verb.take_over(run_on(store)) == 1
    assert verb.look(run_on(store).seen, today()).steps() == []
    assert verb.take_over(run_on(store)) is None
    assert store.numbers(NAME) == [1]


def test_files_that_do_not_fit_together_are_refused(store: Store, home: Path) -> None:
    live = home / "live" / NAME
    key, chain = (live / "privkey.pem").read_text(), (live / "chain.pem").read_text()
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out",
            live / "privkey.pem")  # fmt: skip
    with pytest.raises(StoreError, match=r"privkey\.pem does not belong to cert\.pem"):
        verb.look(run_on(store).seen, today(), home)
    (live / "privkey.pem").write_text(key)
    (live / "chain.pem").write_text((live / "cert.pem").read_text())
    with pytest.raises(StoreError, match=r"chain\.pem is not the rest of fullchain\.pem"):
        verb.look(run_on(store).seen, today(), home)
    (live / "chain.pem").write_text(chain)
    (live / "cert.pem").write_text(chain)
    with pytest.raises(StoreError, match=r"cert\.pem is not the first certificate of fullchain"):
        verb.look(run_on(store).seen, today(), home)
    (live / "fullchain.pem").write_text("")
    with pytest.raises(StoreError, match="not a certificate chain"):
        verb.look(run_on(store).seen, today(), home)


def test_a_lineage_of_another_name_is_named(store: Store, home: Path) -> None:
    (home / "live" / NAME).rename(home / "live/shop.example")
    with pytest.raises(StoreError, match=r"it has shop\.example"):
        verb.look(run_on(store).seen, today(), home)


def test_without_its_renewal_file_nothing_is_known_of_its_ca(store: Store, home: Path) -> None:
    (home / "renewal" / f"{NAME}.conf").unlink()
    with pytest.raises(StoreError, match=rf"renewal/{NAME}\.conf: No such file"):
        verb.look(run_on(store).seen, today(), home)


def test_a_file_of_certbots_is_written_with_its_mode_and_through_a_link(tmp_path: Path) -> None:
    real = tmp_path / "real.conf"
    real.write_text("before")
    real.chmod(0o640)
    link = tmp_path / "link.conf"
    link.symlink_to(real)
    verb._write(link, "after")
    assert link.is_symlink()
    assert real.read_text() == "after"
    assert real.stat().st_mode & 0o777 == 0o640
    assert real.stat().st_uid == os.getuid()


def test_a_fleet_at_lets_encrypt_takes_its_own_certificate() -> None:
    at = replace(fleet(), authority=Authority(LETSENCRYPT))
    certbot.refuse_unfit(at, lineage(), Public(certificate(), LETSENCRYPT), NOW)
    assert isinstance(at, Fleet)
