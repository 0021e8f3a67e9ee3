"""The fleet file: what a good one means, and the exact words about every mistake in a bad one."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from certsync.model import codec
from certsync.model.errors import FleetFileError, Mistake
from certsync.model.fleet import (
    LETSENCRYPT,
    LETSENCRYPT_STAGING,
    Authority,
    Fleet,
    Lineage,
    Machine,
)
from certsync.model.options import (
    DEFAULT_HEALTH_PATH,
    Balancing,
    Event,
    Firewall,
    KeyType,
    Metrics,
    Notify,
    OnCertificateFailure,
    Renewal,
    Scheduler,
    Site,
    SiteKind,
    WebAccess,
)
from certsync.operator.fleet_file import describe, parse_fleet, read_fleet
from certsync.operator.fleet_file.rules import quoted

ROOT = """\
-----BEGIN CERTIFICATE-----
MIHQMIGDoAMCAQICAQEwBQYDK2VwMBExDzANBgNVBAMMBmEgcm9vdDAgFw0yMDAx
MDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowETEPMA0GA1UEAwwGYSByb290MCow
BQYDK2VwAyEAzbh4gzTPktazmI5yABuXZ/PVf5ifUD6oufYYguiH4eAwBQYDK2Vw
A0EAyOJ3Gyt8D73xa6mIWkBIcnPTXU/RIbFrr/vO4UfApIC3oGjduslptGWz/S4W
FSXmqrUliwecLjljsUAUPigCAA==
-----END CERTIFICATE-----
"""
"""A self-signed certificate whose private key is nowhere."""

TOP = """\
names = ["www.example.com"]
public_addresses = ["203.0.113.10"]
"""
CA = """\
[ca]
agree_to_terms = true
"""
BALANCER = """\
[balancers.balancer-01]
address = "203.0.113.10"
"""
BACKEND_01 = """\
[backends.backend-01]
address = "203.0.113.11"
"""
BACKEND_02 = """\
[backends.backend-02]
address = "203.0.113.12"
"""
GOOD = TOP + CA + BALANCER + BACKEND_01 + BACKEND_02


def mistakes(text: str, folder: Path = Path("/nowhere")) -> list[Mistake]:
    with pytest.raises(FleetFileError) as caught:
        parse_fleet(text, "fleet.toml", folder)
    return caught.value.mistakes


def fleet_of(text: str, folder: Path = Path("/nowhere")) -> Fleet:
    return parse_fleet(text, "fleet.toml", folder)


def with_top(line: str) -> str:
    """Return the good text with this line at its top, instead of the one with the same key."""
    key = line.split(" = ", maxsplit=1)[0]
    kept = [other for other in TOP.splitlines() if not other.startswith(f"{key} =")]
    return "\n".join([line, *kept, ""]) + CA + BALANCER + BACKEND_01 + BACKEND_02


def with_table(table: str) -> str:
    return GOOD + table + "\n"


def with_ca(*lines: str) -> str:
    return GOOD.replace(CA, "\n".join(("[ca]", *lines, "")))


def with_balancer(*lines: str) -> str:
    return GOOD.replace(BALANCER, "\n".join(("[balancers.balancer-01]", *lines, "")))


# A good file


def test_a_fleet_file_without_options_gets_the_defaults() -> None:
    assert fleet_of(GOOD) == Fleet(
        lineages=(Lineage(("www.example.com",)),),
        public_addresses=("203.0.113.10",),
        authority=Authority(LETSENCRYPT),
        backends=(
            Machine("backend-01", "203.0.113.11", "203.0.113.11"),
            Machine("backend-02", "203.0.113.12", "203.0.113.12"),
        ),
        balancers=(Machine("balancer-01", "203.0.113.10", "203.0.113.10"),),
        issuer_name="backend-01",
    )


def test_a_fleet_that_was_read_is_written_with_all_its_defaults() -> None:
    written = fleet_of(GOOD).to_json()
    assert written["balancing"] == codec.plain(Balancing())
    assert set(written) == {"schema", *(each.name for each in fields(Fleet))}


def test_every_option_of_a_fleet_file_arrives(tmp_path: Path) -> None:
    for name in ("https.pem", "roots.pem"):
        (tmp_path / name).write_text(ROOT)
    for name in ("id", "id-b", "known_hosts"):
        (tmp_path / name).touch()
    text = """
        names = ["www.example.com", "xn--bcher-kva.example.com"]
        public_addresses = ["203.0.113.10", "2001:DB8:0::10"]
        issuer = "b"
        passthrough = false
        [ca]
        directory = "https://[2001:db8::3]:14000/dir"
        agree_to_terms = true
        contact = "web.master+tls@example.com"
        directory_bundle = "https.pem"
        roots = "roots.pem"
        eab_key_id = "kid-1"
        [certificate]
        key_type = "rsa-3072"
        profile = "shortlived"
        reuse_key = true
        [ssh]
        user = "admin"
        port = 2222
        key = "id"
        known_hosts = "known_hosts"
        [site]
        kind = "proxy"
        upstream = "[::1]:3000"
        test_page = true
        [firewall]
        enable = true
        web_access = "balancers"
        [balancing]
        health_path = "/health?full=1"
        on_certificate_failure = "refuse"
        [renewal]
        every_hours = 6
        scheduler = "systemd"
        [notify]
        events = ["expiring", "run-failed"]
        heartbeat_url = "https://monitor.example.com/ping/7"
        [metrics]
        folder = "/var/lib//node-exporter/"
        [balancers.lb]
        address = "lb.example.com"
        private_address = "10.0.0.10"
        [backends.a]
        address = "203.0.113.11"
        [backends.b]
        address = "2001:db8::12"
        private_address = "fd00::12"
        ssh_user = "root"
        ssh_port = 22
        ssh_key = "id-b"
    """
    own_key = str(tmp_path / "id")
    assert fleet_of(text, tmp_path) == Fleet(
        lineages=(
            Lineage(
                ("www.example.com", "xn--bcher-kva.example.com"),
                key_type=KeyType.RSA_3072,
                profile="shortlived",
                reuse_key=True,
                site=Site(SiteKind.PROXY, upstream="[::1]:3000", test_page=True),
            ),
        ),
        public_addresses=("203.0.113.10", "2001:db8::10"),
        authority=Authority(
            "https://[2001:db8::3]:14000/dir",
            "web.master+tls@example.com",
            str(tmp_path / "https.pem"),
            str(tmp_path / "roots.pem"),
            "kid-1",
        ),
        backends=(
            Machine("a", "203.0.113.11", "203.0.113.11", "admin", 2222, own_key),
            Machine("b", "2001:db8::12", "fd00::12", "root", 22, str(tmp_path / "id-b")),
        ),
        balancers=(Machine("lb", "lb.example.com", "10.0.0.10", "admin", 2222, own_key),),
        issuer_name="b",
        passthrough=False,
        firewall=Firewall(enable=True, web_access=WebAccess.BALANCERS),
        balancing=Balancing("/health?full=1", OnCertificateFailure.REFUSE),
        renewal=Renewal(6, Scheduler.SYSTEMD),
        notify=Notify((Event.EXPIRING, Event.RUN_FAILED), "https://monitor.example.com/ping/7"),
        metrics=Metrics("/var/lib/node-exporter"),
        known_hosts=str(tmp_path / "known_hosts"),
    )


def test_machines_keep_the_order_of_the_file_also_across_other_tables() -> None:
    text = TOP + BACKEND_02 + CA + BACKEND_01 + BALANCER + '[backends.9]\naddress = "203.0.113.9"\n'
    assert [host.name for host in fleet_of(text).backends] == ["backend-02", "backend-01", "9"]
    assert fleet_of(text).issuer_name == "backend-02"


def test_machines_may_be_written_as_inline_tables() -> None:
    inline = '[backends]\nbackend-01 = { address = "203.0.113.11" }\n' + BACKEND_02
    assert fleet_of(TOP + CA + BALANCER + inline) == fleet_of(GOOD)


def test_staging_is_a_directory_that_comes_with_its_roots(tmp_path: Path) -> None:
    (tmp_path / "roots.pem").write_text(ROOT * 2)
    lines = ('directory = "letsencrypt-staging"', "agree_to_terms = true", 'roots = "roots.pem"')
    authority = fleet_of(with_ca(*lines), tmp_path).authority
    assert authority == Authority(LETSENCRYPT_STAGING, roots=str(tmp_path / "roots.pem"))
    assert not authority.publicly_trusted


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "id").touch()
    assert fleet_of(with_table('[ssh]\nkey = "~/id"')).backends[0].ssh_key == str(tmp_path / "id")


def test_the_root_of_a_static_site_is_kept_without_spare_slashes() -> None:
    assert fleet_of(with_table('[site]\nroot = "/srv//www/"')).lineages[0].site.root == "/srv/www"


def test_the_health_path_is_answered_by_nginx_unless_another_is_named() -> None:
    assert fleet_of(GOOD).balancing.health_path == DEFAULT_HEALTH_PATH


# Mistakes, one at a time

NOT_TOML = "a value is a quoted string, a number, true, false or a [list]"
HOST_NAME = "use labels of a-z, 0-9 and inner hyphens, at most 63 characters each, joined by dots"
MACHINE_NAME = "use a-z, 0-9 and inner hyphens, at most 63 characters"
HOST_ADDRESS = "write an address at which other hosts reach it"
OWN_ADDRESS = "give every machine its own addresses"
OWN_NAME = "give every machine its own name"
TERMS = (
    "read the CA's terms of service (https://letsencrypt.org/repository/)"
    ", then set agree_to_terms = true"
)
DIRECTORY = 'write "letsencrypt", "letsencrypt-staging" or a directory\'s https:// URL'
DIRECTORY_URL = 'write one like "https://ca.example.com/acme/directory"'
LOOPBACK = 'start it with "127.0.0.1:", "[::1]:" or "localhost:"'
HOST_AND_PORT = 'write one like "127.0.0.1:3000"'


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        pytest.param(
            "names = [www.example.com]\n", "line 1",
            "not TOML: invalid value (column 10)", NOT_TOML, id="no quotes",
        ),
        pytest.param(
            TOP + "[ca\n", "line 3",
            "not TOML: expected ']' at the end of a table declaration (column 4)", NOT_TOML,
            id="open bracket",
        ),
        pytest.param(
            'names = [\n"www.example.com"', "line 2",
            "not TOML: unclosed array (at the end of the file)", NOT_TOML, id="open list",
        ),
        pytest.param(
            'issuer = "a"\nissuer = "b"\n', "line 2",
            "`issuer` appears twice", "keep one of them", id="key twice",
        ),
        pytest.param(
            GOOD + "ssh_port = 22\nssh_user = 'root'\n\"ssh_port\" = 23\n", "line 13",
            '`"ssh_port"` appears twice', "keep one of them", id="key twice in a table",
        ),
        pytest.param(
            GOOD + BACKEND_02, "line 11",
            "[backends.backend-02] appears twice", "keep one of them", id="table twice",
        ),
        pytest.param(
            'names = []\nissuer = "a"\nnames = [\n    "b = c",\n]\n', "line 3",
            "`names` appears twice", "keep one of them", id="key twice, on several lines",
        ),
        pytest.param(
            'issuer = "a"\nissuer = "b"', "line 2",
            "`issuer` appears twice", "keep one of them", id="key twice, at the end",
        ),
        pytest.param(
            "[ca]\n[backends]\na = { address = 'b', address = 'c' }\n", "line 3",
            "`a` contains a key twice", "keep one of them", id="key twice in braces",
        ),
        pytest.param(
            "backends = {}\n\n[backends.a]\n", "line 3",
            "[backends.a] appears twice", "keep one of them", id="table that is whole already",
        ),
        pytest.param(
            "[lineages.a.site]\n[lineages]\na.site.kind = 'static'\n", "line 3",
            "`a.site.kind` adds to something defined elsewhere", "define it in one place",
            id="two ways to write a table",
        ),
        pytest.param(
            'issuer = "a\n[ca]\n', "line 1",
            "not TOML: a string that does not end on its line (column 12)", NOT_TOML,
            id="open quote",
        ),
        pytest.param(
            "[ca]\ncontact = 'a\nroots = 5\n", "line 2",
            "not TOML: a string that does not end on its line (column 13)", NOT_TOML,
            id="open single quote, and no other",
        ),
        pytest.param(
            f"issuer = {'9' * 5000}\n", "file",
            "not TOML: exceeds the limit (4300 digits) for integer string conversion:"
            " value has 5000 digits", NOT_TOML, id="huge number",
        ),
        pytest.param(
            "names = " + "[" * 100_000, "file",
            "is nested too deeply to be read", NOT_TOML, id="deep",
        ),
    ],
)  # fmt: skip
def test_bad_toml_is_told_with_its_line(text: str, place: str, message: str, hint: str) -> None:
    assert mistakes(text) == [Mistake(place, message, hint)]


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        pytest.param(with_top("name = 1"), "name", "did you mean `names`?", id="top"),
        pytest.param(
            GOOD.replace(BACKEND_02, BACKEND_02 + "ssh-port = 1\n"),
            "backends.backend-02.ssh-port", "did you mean `ssh_port`?", id="machine",
        ),
        pytest.param(
            with_ca("agree_to_terms = true", "passthrough = true"), "ca.passthrough",
            "it belongs at the top of the file, above the first [table]", id="too far down",
        ),
        pytest.param(
            with_top("test_page = true"), "test_page", "it belongs in [site]", id="too high"
        ),
        pytest.param(
            with_table("[firewall]\nqqq = 1"), "firewall.qqq",
            "known keys here: enable, web_access", id="like no other",
        ),
        pytest.param(
            with_table('[firewall]\n"a b\\n" = 1'), 'firewall."a b\\n"',
            "known keys here: enable, web_access", id="not even a plain word",
        ),
        pytest.param(
            with_table('[firewall]\n"" = 1'), 'firewall.""',
            "known keys here: enable, web_access", id="empty",
        ),
        pytest.param(with_table("[sites]"), "sites", "did you mean `site`?", id="table"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_a_mistake_and_the_hint_says_what_was_meant(
    text: str, place: str, hint: str
) -> None:
    assert mistakes(text) == [Mistake(place, "unknown key", hint)]


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        pytest.param(
            with_table("[ssh]\nuser = 5"), "ssh.user",
            "must be a string, not a whole number", "write it in quotes", id="string",
        ),
        pytest.param(
            with_table('[ssh]\nport = "22"'), "ssh.port",
            "must be a whole number, not a string", "write it without quotes or a fraction",
            id="number in quotes",
        ),
        pytest.param(
            with_table("[ssh]\nport = 22.0"), "ssh.port",
            "must be a whole number, not a fraction", "write it without quotes or a fraction",
            id="fraction",
        ),
        pytest.param(
            with_table("[ssh]\nport = true"), "ssh.port",
            "must be a whole number, not true or false", "write it without quotes or a fraction",
            id="boolean is no number",
        ),
        pytest.param(
            with_top('passthrough = "yes"'), "passthrough",
            "must be true or false, not a string", "write it without quotes", id="boolean",
        ),
        pytest.param(
            with_top('names = "www.example.com"'), "names",
            "must be a list, not a string", 'write it in brackets: ["..."]', id="list",
        ),
        pytest.param(
            with_top('names = ["www.example.com", 2020-01-01]'), "names",
            "entry 2 must be a string, not a date", "write it in quotes", id="entry of a list",
        ),
        pytest.param(
            with_top("site = 10:00:00"), "site",
            "must be a table, not a time", "write [site]", id="table",
        ),
        pytest.param(
            GOOD.replace("[backends.backend-02]", "[backends]"), "backends.address",
            "must be a table, not a string", "write [backends.NAME] above its keys",
            id="machine without a name",
        ),
        pytest.param(
            TOP + CA + BALANCER + BACKEND_01.replace("[backends.backend-01]", "[[backends]]"),
            "backends",
            "must be a table, not a list", "write [backends.NAME] above its keys",
            id="list of machines",
        ),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_a_mistake(
    text: str, place: str, message: str, hint: str
) -> None:
    assert mistakes(text) == [Mistake(place, message, hint)]


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        pytest.param(
            "*.example.com", '"*.example.com" is a wildcard, which http-01 cannot validate',
            "list each name separately", id="wildcard",
        ),
        pytest.param(
            "203.0.113.5", '"203.0.113.5" is an IP address, not a name',
            "write the DNS name that resolves to it", id="IP address",
        ),
        pytest.param(
            "bücher.example", '"bücher.example" is not ASCII',
            'write it in punycode: "xn--bcher-kva.example"', id="internationalised",
        ),
        pytest.param(
            "Straße.example", '"Straße.example" is not ASCII',
            'write it in punycode: "xn--strae-oqa.example"', id="internationalised and capital",
        ),
        pytest.param(
            "★.example", '"★.example" is not ASCII',
            'write it in punycode: "xn--..."', id="a character that no name has",
        ),
        pytest.param(
            "xn--a.example.com", '"xn--a.example.com" is not a host name: "xn--a" is no valid '
            "punycode", "CAs refuse such a name; is it spelled right?", id="no punycode",
        ),
        pytest.param(
            "www.xn--zzzzzz99999.example.com", '"www.xn--zzzzzz99999.example.com" is not a host '
            'name: "xn--zzzzzz99999" is no valid punycode',
            "CAs refuse such a name; is it spelled right?", id="punycode without an end",
        ),
        pytest.param(
            "WWW.Example.com", '"WWW.Example.com" has capital letters',
            'write "www.example.com"', id="capital letters",
        ),
        pytest.param(
            "localhost", '"localhost" has only one label',
            'write the full name: "www.example.com"', id="one label",
        ),
        pytest.param("", '"" is not a host name', HOST_NAME, id="empty"),
        pytest.param("a_b.example.com", '"a_b.example.com" is not a host name', HOST_NAME, id="_"),
        pytest.param(
            "-a.example.com", '"-a.example.com" is not a host name', HOST_NAME, id="hyphen"
        ),
        pytest.param("example.com.", '"example.com." is not a host name', HOST_NAME, id="last dot"),
        pytest.param(
            "a;b.example.com", '"a;b.example.com" is not a host name', HOST_NAME, id="semicolon"
        ),
        pytest.param(
            "www.example.com\\n", '"www.example.com\\n" is not a host name', HOST_NAME,
            id="line end",
        ),
        pytest.param(
            "203.0.113.500", '"203.0.113.500" is not a host name', HOST_NAME, id="mistyped address"
        ),
        pytest.param(
            f"{'a' * 64}.example.com", f'"{"a" * 64}.example.com" is not a host name', HOST_NAME,
            id="long label",
        ),
        pytest.param(
            "a." * 125 + "com.x", f'"{"a." * 50}…{"a." * 27}com.x" is 255 characters long',
            "a name has at most 253", id="long name",
        ),
    ],
)  # fmt: skip
def test_a_name_that_is_no_host_name_is_a_mistake(name: str, message: str, hint: str) -> None:
    assert mistakes(with_top(f'names = ["{name}"]')) == [Mistake("names", message, hint)]


def test_a_wildcard_name_is_a_mistake_because_http_01_cannot_prove_it() -> None:
    (mistake,) = mistakes(with_top('names = ["*.example.com"]'))
    assert "http-01 cannot validate" in mistake.message


def test_a_name_of_253_characters_is_the_longest() -> None:
    name = "a." * 125 + "com"
    assert len(name) == 253
    assert fleet_of(with_top(f'names = ["{name}"]')).lineages[0].names == (name,)


def test_the_same_name_twice_is_a_mistake_told_once() -> None:
    names = '["a.example.com", "b.example.com", "a.example.com", "a.example.com"]'
    assert mistakes(with_top(f"names = {names}")) == [
        Mistake("names", '"a.example.com" is listed twice', "keep one of them")
    ]


def test_a_hundred_names_fit_a_certificate_and_one_more_is_a_mistake() -> None:
    names = [f"n{number}.example.com" for number in range(101)]
    assert len(fleet_of(with_top(f"names = {names[:100]}")).lineages[0].names) == 100
    assert mistakes(with_top(f"names = {names}")) == [
        Mistake("names", "101 names are too many for one certificate", "a CA signs at most 100")
    ]


@pytest.mark.parametrize("profile", ["tlsserver", "shortlived"])
def test_some_of_lets_encrypts_profiles_take_25_names(profile: str) -> None:
    names = [f"n{number}.example.com" for number in range(26)]
    table = f'[certificate]\nprofile = "{profile}"\n'
    assert len(fleet_of(with_top(f"names = {names[:25]}") + table).lineages[0].names) == 25
    assert mistakes(with_top(f"names = {names}") + table) == [
        Mistake(
            "names",
            f'26 names are too many for one certificate with profile "{profile}"',
            "Let's Encrypt signs at most 25 with it: move some names to another lineage, or set "
            "another profile under [certificate]",
        )
    ]


def test_the_profiles_limit_is_that_of_the_lineage_which_has_it() -> None:
    names = [f"n{number}.example.com" for number in range(26)]
    other = f'[lineages.shop]\nnames = {names}\nserved_by = ["backend-01"]\n'
    own = '[lineages.shop.certificate]\nprofile = "shortlived"\n'
    (mistake,) = mistakes(with_table(other + own))
    assert mistake.place == "lineages.shop.names"
    assert len(fleet_of(with_table(other)).lineages[1].names) == 26


def test_another_cas_profile_of_the_same_name_has_no_limit_that_we_know() -> None:
    names = [f"n{number}.example.com" for number in range(26)]
    text = with_top(f"names = {names}") + '[certificate]\nprofile = "shortlived"\n'
    other = text.replace("[ca]\n", '[ca]\ndirectory = "https://ca.example/directory"\n')
    assert len(fleet_of(other).lineages[0].names) == 26


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        pytest.param(
            with_top("names = []"), "names", "needs at least one name",
            'the names on the certificate: names = ["www.example.com"]', id="names",
        ),
        pytest.param(
            with_top("public_addresses = []"), "public_addresses", "needs at least one address",
            'what DNS points to: public_addresses = ["203.0.113.10"]', id="public_addresses",
        ),
        pytest.param(
            TOP + CA + BACKEND_01, "balancers", "needs at least one machine",
            "add [balancers.NAME] with its address", id="balancers",
        ),
        pytest.param(
            TOP + CA + BALANCER, "backends", "needs at least one machine",
            "add [backends.NAME] with its address", id="backends",
        ),
    ],
)  # fmt: skip
def test_an_empty_list_is_a_mistake(text: str, place: str, message: str, hint: str) -> None:
    assert mistakes(text) == [Mistake(place, message, hint)]


def test_an_empty_file_lacks_all_that_a_fleet_needs() -> None:
    places = ["names", "public_addresses", "balancers", "backends", "ca.agree_to_terms"]
    assert [mistake.place for mistake in mistakes("")] == places


@pytest.mark.parametrize(
    ("address", "message", "hint"),
    [
        pytest.param("127.0.0.1", '"127.0.0.1" is a loopback address', HOST_ADDRESS, id="v4 loop"),
        pytest.param("::1", '"::1" is a loopback address', HOST_ADDRESS, id="v6 loopback"),
        pytest.param("0.0.0.0", '"0.0.0.0" is the unspecified address', HOST_ADDRESS, id="v4 any"),
        pytest.param("::", '"::" is the unspecified address', HOST_ADDRESS, id="v6 any"),
        pytest.param("224.0.0.1", '"224.0.0.1" is a multicast address', HOST_ADDRESS, id="multi"),
        pytest.param("ff02::1", '"ff02::1" is a multicast address', HOST_ADDRESS, id="v6 multi"),
        pytest.param(
            "255.255.255.255", '"255.255.255.255" is a reserved address', HOST_ADDRESS,
            id="broadcast",
        ),
        pytest.param("fe80::1", '"fe80::1" is a link-local address', HOST_ADDRESS, id="link-local"),
        pytest.param(
            "::ffff:203.0.113.1", '"::ffff:203.0.113.1" is 203.0.113.1 in IPv6 form', HOST_ADDRESS,
            id="mapped",
        ),
        pytest.param(
            "2001:db8::1%a;b", '"2001:db8::1%a;b" is not an IP address',
            'write one like "203.0.113.10" or "2001:db8::10"', id="zone",
        ),
        pytest.param(
            "www.example.com", '"www.example.com" is not an IP address',
            'write one like "203.0.113.10" or "2001:db8::10"', id="name",
        ),
    ],
)  # fmt: skip
def test_an_address_that_no_other_host_could_reach_is_a_mistake(
    address: str, message: str, hint: str
) -> None:
    for text, place in (
        (with_top(f'public_addresses = ["{address}"]'), "public_addresses"),
        (
            with_balancer('address = "lb.example.com"', f'private_address = "{address}"'),
            "balancers.balancer-01.private_address",
        ),
    ):
        assert mistakes(text) == [Mistake(place, message, hint)]


def test_the_same_public_address_twice_is_a_mistake_in_any_spelling() -> None:
    assert mistakes(with_top('public_addresses = ["2001:db8::1", "2001:DB8:0::1"]')) == [
        Mistake("public_addresses", '"2001:db8::1" is listed twice', "keep one of them")
    ]


# The CA


@pytest.mark.parametrize(
    ("directory", "message", "hint"),
    [
        pytest.param(
            "letsencrypt-stagin", '"letsencrypt-stagin" is not a CA that certsync knows',
            'did you mean "letsencrypt-staging"?', id="mistyped",
        ),
        pytest.param(
            "zerossl", '"zerossl" is not a CA that certsync knows', DIRECTORY, id="unknown"
        ),
        pytest.param(
            "http://ca.example.com/dir",
            '"http://ca.example.com/dir" is not a CA that certsync knows', DIRECTORY, id="no TLS",
        ),
        pytest.param("https://", '"https://" is not a directory URL', DIRECTORY_URL, id="empty"),
        pytest.param(
            "https://ca.example.com:99999/dir",
            '"https://ca.example.com:99999/dir" is not a directory URL', DIRECTORY_URL,
            id="port",
        ),
        pytest.param(
            "https://me:secret@ca.example.com/",
            '"https://me:secret@ca.example.com/" is not a directory URL', DIRECTORY_URL,
            id="password",
        ),
        pytest.param(
            "https://ca.example.com/a b", '"https://ca.example.com/a b" is not a directory URL',
            DIRECTORY_URL, id="space",
        ),
        pytest.param(
            "https://[::1/dir", '"https://[::1/dir" is not a directory URL', DIRECTORY_URL,
            id="bracket",
        ),
    ],
)  # fmt: skip
def test_an_unknown_directory_is_a_mistake(directory: str, message: str, hint: str) -> None:
    text = with_ca(f'directory = "{directory}"', "agree_to_terms = true")
    assert mistakes(text) == [Mistake("ca.directory", message, hint)]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        pytest.param(TOP + BALANCER + BACKEND_01, TERMS, id="no table"),
        pytest.param(with_ca("agree_to_terms = false"), TERMS, id="false"),
        pytest.param(
            with_ca('directory = "https://ca.example.com/dir"'),
            "read the CA's terms of service, then set agree_to_terms = true", id="another CA",
        ),
    ],
)  # fmt: skip
def test_missing_agreement_to_the_terms_is_a_mistake(text: str, hint: str) -> None:
    assert mistakes(text) == [Mistake("ca.agree_to_terms", "must be true", hint)]


def test_staging_without_its_roots_is_a_mistake_that_says_where_they_are() -> None:
    text = with_ca('directory = "letsencrypt-staging"', "agree_to_terms = true")
    assert mistakes(text) == [
        Mistake(
            "ca.roots",
            "is missing, but no system trusts the staging CA",
            "download the staging roots from Let's Encrypt's page \"Staging Environment\""
            " (https://letsencrypt.org/docs/staging-environment/) and name the file here",
        )
    ]


@pytest.mark.parametrize(
    "contact",
    ["admin", "mailto:admin@example.com", "admin@localhost", "a b@example.com", "a@b.example?c=d"],
)
def test_a_contact_that_is_no_e_mail_address_is_a_mistake(contact: str) -> None:
    text = with_ca("agree_to_terms = true", f'contact = "{contact}"')
    assert mistakes(text) == [
        Mistake(
            "ca.contact",
            f'"{contact}" is not an e-mail address',
            'write only the address: "admin@example.com"',
        )
    ]


@pytest.mark.parametrize("identifier", ["", "a b", "kid\\n", "schlüssel", "k" * 257])
def test_a_key_identifier_that_no_ca_gives_out_is_a_mistake(identifier: str) -> None:
    text = with_ca("agree_to_terms = true", f'eab_key_id = "{identifier}"')
    (mistake,) = mistakes(text)
    assert mistake.place == "ca.eab_key_id"
    assert mistake.message.endswith('" is not a key identifier')
    assert mistake.hint == "copy it from the CA: ASCII without white space, at most 256 characters"


@pytest.mark.parametrize("profile", ["", "short lived", "a/b", "ü", "p" * 65])
def test_a_profile_of_other_characters_is_a_mistake(profile: str) -> None:
    (mistake,) = mistakes(with_table(f'[certificate]\nprofile = "{profile}"'))
    assert mistake.place == "certificate.profile"
    assert mistake.message.endswith('" is not a profile name')
    assert mistake.hint == (
        "use letters, digits, dots, underscores and hyphens, at most 64 characters"
    )


def test_roots_that_are_not_there_are_a_mistake(tmp_path: Path) -> None:
    text = with_ca("agree_to_terms = true", 'roots = "roots.pem"')
    assert mistakes(text, tmp_path) == [
        Mistake(
            "ca.roots",
            f"there is no file {quoted(f'{tmp_path}/roots.pem')}",
            "relative paths start at the fleet file's folder",
        )
    ]


def test_a_folder_in_place_of_roots_is_a_mistake(tmp_path: Path) -> None:
    text = with_ca("agree_to_terms = true", 'roots = "."')
    assert mistakes(text, tmp_path) == [
        Mistake("ca.roots", f"{quoted(str(tmp_path))} is a folder", "name a file")
    ]


def test_roots_without_a_certificate_are_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "roots.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
    text = with_ca("agree_to_terms = true", 'roots = "roots.pem"')
    assert mistakes(text, tmp_path) == [
        Mistake(
            "ca.roots",
            f"{quoted(f'{tmp_path}/roots.pem')} contains no PEM certificate",
            "it needs at least one -----BEGIN CERTIFICATE----- block",
        )
    ]


def test_roots_with_a_private_key_are_a_mistake_because_they_are_copied_to_balancers(
    tmp_path: Path,
) -> None:
    (tmp_path / "roots.pem").write_text(f"{ROOT}-----BEGIN EC PRIVATE KEY-----\n")
    text = with_ca("agree_to_terms = true", 'directory_bundle = "roots.pem"')
    assert mistakes(text, tmp_path) == [
        Mistake(
            "ca.directory_bundle",
            f"{quoted(f'{tmp_path}/roots.pem')} contains a private key",
            "use a file with certificates only",
        )
    ]


def test_a_path_that_the_system_cannot_look_at_is_a_mistake(tmp_path: Path) -> None:
    text = with_ca("agree_to_terms = true", f'roots = "{"a" * 300}"')
    (mistake,) = mistakes(text, tmp_path)
    assert mistake.place == "ca.roots"
    assert mistake.message.endswith("cannot be read: file name too long")


# SSH


def test_a_key_at_a_path_that_openssh_would_split_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "my key").touch()
    assert mistakes(with_table('[ssh]\nkey = "my key"'), tmp_path) == [
        Mistake(
            "ssh.key",
            f"{quoted(f'{tmp_path}/my key')} has characters that are special to OpenSSH",
            "move it to a path without white space, quotes or ; $ % \\",
        )
    ]


@pytest.mark.parametrize(
    ("line", "place", "message", "hint"),
    [
        pytest.param(
            "port = 0", "ssh.port", "0 is not a port number", "ports are 1 to 65535", id="port 0"
        ),
        pytest.param(
            "port = 65536", "ssh.port", "65536 is not a port number", "ports are 1 to 65535",
            id="high port",
        ),
        pytest.param(
            'user = "certsync"', "ssh.user",
            '"certsync" is the name of a user that certsync itself sets up',
            "use root or another user there", id="our own user",
        ),
        pytest.param(
            'user = "a b"', "ssh.user", '"a b" is not a user name',
            "use letters, digits, dots, underscores and inner hyphens, at most 32 characters",
            id="user",
        ),
        pytest.param(
            'user = "-oProxyCommand=x"', "ssh.user", '"-oProxyCommand=x" is not a user name',
            "use letters, digits, dots, underscores and inner hyphens, at most 32 characters",
            id="an option instead of a user",
        ),
        pytest.param('key = ""', "ssh.key", '"" is not a file path', "", id="no path"),
        pytest.param(
            'known_hosts = "a\\u0000"', "ssh.known_hosts", '"a\\x00" is not a file path', "",
            id="null character",
        ),
        pytest.param(
            'known_hosts = "~nobody-of-this-name/a"', "ssh.known_hosts",
            '"~nobody-of-this-name/a" is in the home of an unknown user', "", id="home",
        ),
    ],
)  # fmt: skip
def test_ssh_options_that_ssh_would_not_take_are_mistakes(
    line: str, place: str, message: str, hint: str
) -> None:
    assert mistakes(with_table(f"[ssh]\n{line}")) == [Mistake(place, message, hint)]


# Site, firewall, balancing


@pytest.mark.parametrize(
    ("table", "place", "message", "hint"),
    [
        pytest.param(
            '[certificate]\nkey_type = "rsa2048"', "certificate.key_type",
            'unknown value "rsa2048"', 'did you mean "rsa-2048"?', id="key type",
        ),
        pytest.param(
            '[site]\nkind = "php"', "site.kind",
            'unknown value "php"', "write one of: static, proxy, unmanaged", id="kind of site",
        ),
        pytest.param(
            '[firewall]\nweb_access = "nobody"', "firewall.web_access",
            'unknown value "nobody"', "write one of: anywhere, balancers", id="web access",
        ),
        pytest.param(
            '[balancing]\non_certificate_failure = "ignore"', "balancing.on_certificate_failure",
            'unknown value "ignore"', "write one of: serve, refuse", id="certificate failure",
        ),
        pytest.param(
            '[renewal]\nscheduler = "at"', "renewal.scheduler",
            'unknown value "at"', "write one of: cron, systemd", id="scheduler",
        ),
        pytest.param(
            '[notify]\nevents = ["behind", "run-fail"]', "notify.events",
            'unknown value "run-fail"', 'did you mean "run-failed"?', id="event mistyped",
        ),
        pytest.param(
            '[notify]\nevents = ["all"]', "notify.events",
            'unknown value "all"', "write one of: run-failed, behind, expiring, challenge",
            id="event",
        ),
    ],
)  # fmt: skip
def test_a_value_that_is_none_of_those_known_is_a_mistake(
    table: str, place: str, message: str, hint: str
) -> None:
    assert mistakes(with_table(table)) == [Mistake(place, message, hint)]


@pytest.mark.parametrize(
    ("table", "place", "message", "hint"),
    [
        pytest.param(
            '[site]\nkind = "proxy"', "site.upstream", "is missing",
            'where the application listens on each backend: upstream = "127.0.0.1:3000"',
            id="proxy to nowhere",
        ),
        pytest.param(
            '[site]\nupstream = "127.0.0.1:3000"', "site.upstream",
            'has no effect when kind is "static"', 'remove it, or set kind = "proxy"',
            id="static with upstream",
        ),
        pytest.param(
            '[site]\nkind = "unmanaged"\nroot = "/srv"', "site.root",
            'has no effect when kind is "unmanaged"', 'remove it, or set kind = "static"',
            id="unmanaged with root",
        ),
        pytest.param(
            '[site]\nkind = "unmanaged"\ntest_page = true', "site.test_page",
            'has no effect when kind is "unmanaged"',
            'remove it, or set kind = "static" or "proxy"', id="unmanaged with test page",
        ),
    ],
)  # fmt: skip
def test_a_site_takes_what_its_kind_uses_and_nothing_else(
    table: str, place: str, message: str, hint: str
) -> None:
    assert mistakes(with_table(table)) == [Mistake(place, message, hint)]


@pytest.mark.parametrize(
    ("upstream", "message", "hint"),
    [
        pytest.param(
            "10.0.0.5:80", '"10.0.0.5:80" is not on the backend itself', LOOPBACK, id="elsewhere"
        ),
        pytest.param(
            "app.example.com:80", '"app.example.com:80" is not on the backend itself', LOOPBACK,
            id="name",
        ),
        pytest.param("::1:80", '"::1:80" is not on the backend itself', LOOPBACK, id="no brackets"),
        pytest.param(
            "[::1%a;b]:80", '"[::1%a;b]:80" is not on the backend itself', LOOPBACK, id="zone"
        ),
        pytest.param(
            "localhost", '"localhost" is not a host and port', HOST_AND_PORT, id="no port"
        ),
        pytest.param(
            "127.0.0.1:65536", '"127.0.0.1:65536" is not a host and port', HOST_AND_PORT, id="port"
        ),
        pytest.param(":3000", '":3000" is not a host and port', HOST_AND_PORT, id="no host"),
    ],
)  # fmt: skip
def test_an_upstream_is_a_port_on_the_backend_itself(
    upstream: str, message: str, hint: str
) -> None:
    table = f'[site]\nkind = "proxy"\nupstream = "{upstream}"'
    assert mistakes(with_table(table)) == [Mistake("site.upstream", message, hint)]


@pytest.mark.parametrize(
    "upstream", ["127.0.0.1:3000", "127.1.2.3:1", "[::1]:8", "localhost:65535"]
)
def test_an_upstream_may_be_any_loopback_address(upstream: str) -> None:
    text = with_table(f'[site]\nkind = "proxy"\nupstream = "{upstream}"')
    assert fleet_of(text).lineages[0].site.upstream == upstream


@pytest.mark.parametrize("character", [" ", "\\t", '\\"', "'", ";", "{", "}", "$", "\\\\", "\\n"])
def test_a_root_that_nginx_would_misread_is_a_mistake(character: str) -> None:
    (mistake,) = mistakes(with_table(f'[site]\nroot = "/srv/{character}www"'))
    assert mistake.place == "site.root"
    assert mistake.message.endswith("has characters that are special to nginx")
    assert mistake.hint == "use a path without white space, quotes or ; { } $ \\"


@pytest.mark.parametrize(
    ("root", "message", "hint"),
    [
        pytest.param(
            "www", '"www" is not absolute', 'start it with a slash: "/var/www/html"', id="relative"
        ),
        pytest.param(
            "/", '"/" is not a folder to serve', 'name one like "/var/www/html"', id="all"
        ),
        pytest.param(
            "/srv/../etc", '"/srv/../etc" is not a folder to serve',
            'name one like "/var/www/html"', id="upwards",
        ),
    ],
)  # fmt: skip
def test_a_root_is_an_absolute_folder(root: str, message: str, hint: str) -> None:
    text = with_table(f'[site]\nroot = "{root}"')
    assert mistakes(text) == [Mistake("site.root", message, hint)]


@pytest.mark.parametrize(
    "character", [" ", '\\"', "'", "{", "}", ";", "#", "$", "\\\\", "ü", "\\n"]
)
def test_a_health_path_that_haproxy_would_misread_is_a_mistake(character: str) -> None:
    (mistake,) = mistakes(with_table(f'[balancing]\nhealth_path = "/{character}"'))
    assert mistake.place == "balancing.health_path"
    assert mistake.message.endswith("has characters that a health check cannot send")
    assert mistake.hint == "use ASCII without white space, quotes or ; { } $ # \\"


def test_a_health_path_starts_with_a_slash() -> None:
    assert mistakes(with_table('[balancing]\nhealth_path = "health"')) == [
        Mistake(
            "balancing.health_path",
            '"health" is not a path',
            'start it with a slash: "/health"',
        )
    ]


# Renewal, and who hears of it


@pytest.mark.parametrize("hours", [-1, 0, 5, 8, 24])
def test_runs_are_so_many_hours_apart_that_every_day_has_them_at_the_same_time(hours: int) -> None:
    text = with_table(f"[renewal]\nevery_hours = {hours}")
    hint = "write one of: 1, 2, 3, 4, 6, 12"
    assert mistakes(text) == [Mistake("renewal.every_hours", f"unknown value {hours}", hint)]


@pytest.mark.parametrize("value", [f"site{'.a' * 300} = 1", f"site = {'[' * 90}{']' * 90}"])
def test_a_value_of_any_depth_is_a_mistake_like_another(value: str) -> None:
    [mistake] = mistakes(with_top(value))
    assert mistake.place.startswith("site")


def test_an_event_that_is_listed_twice_is_a_mistake() -> None:
    text = with_table('[notify]\nevents = ["behind", "expiring", "behind"]')
    assert mistakes(text) == [
        Mistake("notify.events", '"behind" is listed twice', "keep one of them")
    ]


def test_an_event_that_is_no_word_is_a_mistake() -> None:
    text = with_table('[notify]\nevents = ["behind", 5]')
    told = "entry 2 must be a string, not a whole number"
    assert mistakes(text) == [Mistake("notify.events", told, "write it in quotes")]


NO_URL = (
    "is not an http:// or https:// URL",
    'write one like "https://monitor.example.com/ping/7"',
)
NO_URL_CHARACTER = (
    "has characters that a URL cannot have",
    "remove white space and quotes, and percent-encode other characters (%C3%BC)",
)
PASSWORD = ("contains a user or a password", "use a URL that needs none")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        pytest.param("monitor.example.com/ping", NO_URL, id="no scheme"),
        pytest.param("ftp://monitor.example.com/ping", NO_URL, id="another scheme"),
        pytest.param("file:///etc/passwd", NO_URL, id="a file"),
        pytest.param("https:///ping", NO_URL, id="no host"),
        pytest.param("https://a b/ping", NO_URL, id="no host's name"),
        pytest.param("https://a.example:99999/ping", NO_URL, id="port"),
        pytest.param("https://a.example/a b", NO_URL_CHARACTER, id="space"),
        pytest.param("https://a.example/a\\nb", NO_URL_CHARACTER, id="line end"),
        pytest.param("https://a.example/'", NO_URL_CHARACTER, id="quote"),
        pytest.param("https://a.example/ü", NO_URL_CHARACTER, id="not ASCII"),
        pytest.param("https://me:secret@a.example/", PASSWORD, id="password"),
        pytest.param("https://me@a.example/", PASSWORD, id="user"),
    ],
)
def test_a_heartbeat_that_is_no_plain_url_is_a_mistake_and_not_repeated(
    url: str, told: tuple[str, str]
) -> None:
    text = with_table(f'[notify]\nheartbeat_url = "{url}"')
    assert mistakes(text) == [Mistake("notify.heartbeat_url", *told)]


@pytest.mark.parametrize(
    "url", ["", "http://127.0.0.1:8000/", "https://[2001:db8::1]/a?b=c", "http://monitor/~x/%20"]
)
def test_a_heartbeat_may_be_any_web_address(url: str) -> None:
    text = with_table(f'[notify]\nheartbeat_url = "{url}"')
    assert fleet_of(text).notify.heartbeat_url == url


@pytest.mark.parametrize(
    ("folder", "message", "hint"),
    [
        pytest.param(
            "metrics", '"metrics" is not absolute',
            'start it with a slash: "/var/lib/prometheus/node-exporter"', id="relative",
        ),
        pytest.param(
            "/", '"/" is not a folder to write to',
            'name one like "/var/lib/prometheus/node-exporter"', id="all",
        ),
        pytest.param(
            "/var/../etc", '"/var/../etc" is not a folder to write to',
            'name one like "/var/lib/prometheus/node-exporter"', id="upwards",
        ),
        pytest.param(
            "/var/$x", '"/var/$x" has characters that are special to a shell',
            "use a path without white space, quotes or ; { } $ \\", id="dollar",
        ),
    ],
)  # fmt: skip
def test_metrics_go_to_an_absolute_folder(folder: str, message: str, hint: str) -> None:
    text = with_table(f'[metrics]\nfolder = "{folder}"')
    assert mistakes(text) == [Mistake("metrics.folder", message, hint)]


# Machines


def test_an_issuer_that_is_no_backend_is_a_mistake_and_the_hint_lists_the_backends() -> None:
    assert mistakes(with_top('issuer = "balancer-01"')) == [
        Mistake(
            "issuer", '"balancer-01" is not a backend', "the backends are: backend-01, backend-02"
        )
    ]


@pytest.mark.parametrize("name", ["Web-1", "web_1", "-web", "web-", '"a b"', "w" * 64, '""'])
def test_a_machine_name_that_is_no_host_label_is_a_mistake(name: str) -> None:
    text = with_table(f'[backends.{name}]\naddress = "203.0.113.13"')
    bare = name.strip('"')
    (mistake,) = mistakes(text)
    assert mistake.message == f'"{bare}" is not a machine name'
    assert mistake.hint == MACHINE_NAME


@pytest.mark.parametrize("name", ["backends", "issuer", "replicas", "balancers"])
def test_the_name_of_a_group_of_machines_is_no_machines(name: str) -> None:
    text = with_table(f'[backends.{name}]\naddress = "203.0.113.13"')
    place = f"backends.{name}"
    message = f'"{name}" is the name of a group of machines'
    assert mistakes(text) == [Mistake(place, message, "give the machine another name")]


def test_one_name_for_a_balancer_and_a_backend_is_a_mistake() -> None:
    text = with_table('[backends.balancer-01]\naddress = "203.0.113.13"')
    assert mistakes(text) == [
        Mistake("backends.balancer-01", "is also the name of a balancer", OWN_NAME)
    ]


def test_the_same_machine_twice_is_a_mistake_also_when_other_tables_lie_between() -> None:
    again = '[backends."backend-01"]\nssh_port = 2222\n'
    text = TOP + BACKEND_01 + CA + BALANCER + BACKEND_02 + again
    assert mistakes(text) == [
        Mistake("line 11", '[backends."backend-01"] appears twice', "keep one of them")
    ]


@pytest.mark.parametrize(
    ("lines", "place", "message"),
    [
        pytest.param(
            'address = "203.0.113.10"', "backends.backend-03.address",
            '"203.0.113.10" is also balancers.balancer-01.address', id="address",
        ),
        pytest.param(
            'address = "c.example.com"\nprivate_address = "203.0.113.12"',
            "backends.backend-03.private_address",
            '"203.0.113.12" is also backends.backend-02.address', id="private address",
        ),
    ],
)  # fmt: skip
def test_the_same_address_on_two_machines_is_a_mistake(
    lines: str, place: str, message: str
) -> None:
    text = with_table(f"[backends.backend-03]\n{lines}")
    assert mistakes(text) == [Mistake(place, message, OWN_ADDRESS)]


def test_the_same_host_name_on_two_machines_is_a_mistake() -> None:
    machine = '[backends.{0}]\naddress = "c.example.com"\nprivate_address = "10.0.0.{1}"\n'
    text = GOOD + machine.format("c", 1) + machine.format("d", 2)
    assert mistakes(text) == [
        Mistake("backends.d.address", '"c.example.com" is also backends.c.address', OWN_ADDRESS)
    ]


def test_one_machine_may_have_the_same_address_for_everybody() -> None:
    text = with_balancer('address = "203.0.113.10"', 'private_address = "203.0.113.10"')
    assert fleet_of(text) == fleet_of(GOOD)


def test_a_machine_without_an_address_is_a_mistake() -> None:
    assert mistakes(with_balancer()) == [
        Mistake(
            "balancers.balancer-01.address",
            "is missing",
            'where SSH reaches it: address = "203.0.113.11"',
        )
    ]


def test_a_machine_known_by_name_needs_a_private_address() -> None:
    assert mistakes(with_balancer('address = "lb.example.com"')) == [
        Mistake(
            "balancers.balancer-01.private_address",
            "is missing, and is needed because the address is a name",
            "write the IP address at which the fleet's hosts reach it",
        )
    ]


@pytest.mark.parametrize(
    ("address", "message", "hint"),
    [
        pytest.param(
            "203.0.113.300", '"203.0.113.300" is neither an IP address nor a host name',
            'write one like "203.0.113.11" or "web-1.example.com"', id="mistyped",
        ),
        pytest.param(
            "-oProxyCommand=x", '"-oProxyCommand=x" has capital letters',
            'write "-oproxycommand=x"', id="an option",
        ),
        pytest.param("127.0.0.1", '"127.0.0.1" is a loopback address', HOST_ADDRESS, id="loopback"),
    ],
)  # fmt: skip
def test_a_machine_address_that_ssh_could_not_use_is_a_mistake(
    address: str, message: str, hint: str
) -> None:
    place = "balancers.balancer-01.address"
    text = with_balancer(f'address = "{address}"')
    assert mistakes(text) == [Mistake(place, message, hint)]


# All at once


def test_all_mistakes_are_told_at_once_and_none_hides_another() -> None:
    text = """
        names = ["*.example.com", "a.example.com", "a.example.com"]
        public_addresses = ["203.0.113.10"]
        issuer = "backend-9"
        [ca]
        agree_to_terms = false
        contact = 5
        [balancers.lb]
        address = "203.0.113.10"
        ssh_port = "22"
        [backends.backend-01]
        address = "203.0.113.10"
        adress = "203.0.113.11"
    """
    assert [(mistake.place, mistake.message) for mistake in mistakes(text)] == [
        ("names", '"*.example.com" is a wildcard, which http-01 cannot validate'),
        ("ca.contact", "must be a string, not a whole number"),
        ("balancers.lb.ssh_port", "must be a whole number, not a string"),
        ("backends.backend-01.adress", "unknown key"),
        ("names", '"a.example.com" is listed twice'),
        ("issuer", '"backend-9" is not a backend'),
        ("ca.agree_to_terms", "must be true"),
        ("backends.backend-01.address", '"203.0.113.10" is also balancers.lb.address'),
    ]


def test_a_value_at_fault_is_not_also_told_to_be_missing() -> None:
    text = """
        names = ["*.example.com"]
        public_addresses = "203.0.113.10"
        [ca]
        agree_to_terms = "yes"
        directory = "letsencrypt-staging"
        roots = 5
        [site]
        kind = "prox"
        upstream = "127.0.0.1:3000"
        [balancers.lb]
        address = 5
        [backends.a]
        address = "a.example.com"
        private_address = "b.example.com"
    """
    assert [mistake.place for mistake in mistakes(text)] == [
        "names",
        "public_addresses",
        "ca.agree_to_terms",
        "ca.roots",
        "site.kind",
        "balancers.lb.address",
        "backends.a.private_address",
    ]


def test_mistakes_are_described_line_by_line_with_their_hints() -> None:
    error = FleetFileError(
        "inventory/x.toml",
        [
            Mistake("backends.backend-02.adress", "unknown key", "did you mean `address`?"),
            Mistake("ssh.key", '"" is not a file path'),
        ],
    )
    assert describe(error) == (
        "error: inventory/x.toml has 2 mistakes\n"
        "  backends.backend-02.adress: unknown key\n"
        "    hint: did you mean `address`?\n"
        '  ssh.key: "" is not a file path'
    )


# The file itself


def read_mistake(path: Path) -> Mistake:
    with pytest.raises(FleetFileError) as caught:
        read_fleet(path)
    assert caught.value.path == str(path)
    (mistake,) = caught.value.mistakes
    return mistake


def test_a_fleet_file_is_read_with_its_folder_as_the_start_of_paths(tmp_path: Path) -> None:
    (tmp_path / "id").touch()
    (tmp_path / "fleet.toml").write_text(with_table('[ssh]\nkey = "id"'))
    assert read_fleet(tmp_path / "fleet.toml").backends[0].ssh_key == str(tmp_path / "id")


def test_paths_are_absolute_also_when_the_fleet_file_is_named_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("id").touch()
    Path("fleet.toml").write_text(with_table('[ssh]\nkey = "id"'))
    assert read_fleet(Path("fleet.toml")).backends[0].ssh_key == str(tmp_path / "id")


def test_a_byte_order_mark_and_windows_line_ends_are_no_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert read_fleet(path) == fleet_of(GOOD)


def test_a_missing_fleet_file_is_a_mistake_with_the_command_that_writes_one(tmp_path: Path) -> None:
    path = tmp_path / "my fleet.toml"
    assert read_mistake(path) == Mistake("file", "does not exist", f"`certsync init '{path}'`")


def test_a_folder_is_no_fleet_file(tmp_path: Path) -> None:
    assert read_mistake(tmp_path) == Mistake(
        "file", "is a folder", f"name a file in it, or `certsync init {tmp_path}/fleet.toml`"
    )


def test_a_fleet_file_that_cannot_be_read_is_a_mistake_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert read_mistake(tmp_path / "file" / "fleet.toml") == Mistake(
        "file",
        "cannot be read: not a directory",
        "use a file that you can read, or create one with `certsync init`",
    )


def test_a_fleet_file_that_is_not_utf_8_is_a_mistake_with_the_place(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_bytes("# Bücher".encode("latin-1"))
    assert read_mistake(path) == Mistake(
        "file",
        "is not UTF-8 text, see byte 4",
        "save it as UTF-8, or create a new one with `certsync init`",
    )
