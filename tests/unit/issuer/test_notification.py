"""Messages reach a service, and nothing else of its URL reaches anybody."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apprise
import pytest
from click.testing import CliRunner

from certsync.issuer.commands import notify
from certsync.issuer.monitoring import notification
from certsync.issuer.monitoring.alerts import Message
from certsync.issuer.monitoring.notification import Service
from certsync.issuer.store import Store
from certsync.main import cli
from certsync.model.errors import NotifyError, StoreError
from certsync.model.options import Event, Notify
from tests.unit.fake_fleet import NAME, fleet
from tests.unit.fake_web import Web, web

SECRET = "swordfish"
FAILED = Message(f"{NAME}: a run has failed", "error: the CA refuses", good=False, key="run-failed")
OVER = Message(f"{NAME}: runs succeed again", "It is over.", good=True, key="run-failed")
NOBODY = (
    "the fleet file asks for notifications, but no URL is set: "
    "on the issuer, run `sudo certsync notify --set`"
)
NOT_INSTALLED = "apprise, which sends the messages, is not installed here"


@pytest.fixture
def service() -> Iterator[Web]:
    with web() as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return the store of an issuer whose fleet has events."""
    found = Store(tmp_path, tmp_path)
    rendered = fleet(notify=Notify((Event.RUN_FAILED,))).to_json()
    found.fleet_file.write_text(json.dumps(rendered))
    return found


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Return all that is logged by anybody, at any level, as the test goes on."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    root, handler = logging.getLogger(), Keep(level=1)
    before = root.level
    root.addHandler(handler)
    root.setLevel(1)
    yield lines
    root.removeHandler(handler)
    root.setLevel(before)


def url(service: Web) -> str:
    return f"json://user:{SECRET}@{service.host}/{SECRET}?rto=0.3&cto=0.3&+X-Key={SECRET}"


def sent(store: Store, *messages: Message) -> tuple[tuple[Message, ...], list[str]]:
    """Return what was accepted, and the warnings."""
    warnings: list[str] = []
    return notification.send(messages, store, warnings.append), warnings


# Sending


def test_a_message_arrives_with_its_title_its_body_and_its_kind(service: Web, store: Store) -> None:
    notification.keep(store, url(service).encode())
    assert sent(store, FAILED, OVER) == ((FAILED, OVER), [])
    bodies = [json.loads(body) for _, body in service.asked]
    assert [(each["title"], each["message"], each["type"]) for each in bodies] == [
        (FAILED.title, FAILED.body, "failure"),
        (OVER.title, OVER.body, "success"),
    ]


def test_what_other_machines_say_is_sent_harmless(service: Web, store: Store) -> None:
    notification.keep(store, url(service).encode())
    hostile = Message("a\x1b]0;b\x07", "error: \x1b[2J\u202eno\u00a0!\nhint: x", good=False)
    assert sent(store, hostile) == ((hostile,), [])
    [body] = [json.loads(body) for _, body in service.asked]
    assert (body["title"], body["message"]) == ("a?]0;b?", "error: ?[2J?no !\nhint: x")


def test_nothing_to_send_reads_nothing_and_loads_nothing(tmp_path: Path) -> None:
    program = (
        "import sys; from certsync.issuer.monitoring import notification; "
        "from certsync.issuer.store import Store; "
        "notification.send((), Store(), print); print('apprise' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
    )  # fmt: skip
    assert (shown.stdout, shown.stderr) == ("False\n", "")


def test_a_message_that_one_of_two_services_took_is_sent_and_the_other_is_told(
    service: Web, store: Store
) -> None:
    notification.keep(store, f"{url(service)}\njson://127.0.0.1:1/{SECRET}".encode())
    accepted, warnings = sent(store, FAILED)
    assert accepted == (FAILED,)
    assert warnings == [f"{store.notify_urls}, line 2 (json): 1 of 1 messages not accepted"]


def test_a_message_that_no_service_took_is_not_sent(service: Web, store: Store) -> None:
    notification.keep(store, url(service).encode())
    service.status = 500
    accepted, warnings = sent(store, FAILED, OVER)
    assert accepted == ()
    assert warnings == [f"{store.notify_urls}, line 1 (json): 2 of 2 messages not accepted"]


def test_while_no_url_is_set_one_warning_names_the_command(store: Store) -> None:
    assert sent(store, FAILED, OVER) == ((), [NOBODY])
    assert notification.lacking(store.fleet(), store) == NOBODY


def test_nothing_is_lacking_without_events_or_with_a_url(store: Store) -> None:
    assert notification.lacking(fleet(), store) == ""
    notification.keep(store, b"json://127.0.0.1:1/")
    assert notification.lacking(store.fleet(), store) == ""


def test_a_file_that_cannot_be_read_is_told_and_ends_no_run(store: Store) -> None:
    store.notify_urls.mkdir()
    told = f"{store.notify_urls} cannot be read: Is a directory: only root can read it"
    assert sent(store, FAILED) == ((), [told])
    assert notification.lacking(store.fleet(), store) == told


def test_without_apprise_that_is_told_and_ends_no_run(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.notify_urls.write_text("json://127.0.0.1:1/\n")
    monkeypatch.setitem(sys.modules, "apprise", None)
    accepted, (warning,) = sent(store, FAILED)
    assert accepted == ()
    assert warning == (
        f"{NOT_INSTALLED}: set `events` under [notify] in the fleet file, "
        "then run `certsync deploy FLEET`"
    )


# The secret


def test_apprise_and_what_is_below_it_would_log_a_url_if_they_were_let(
    service: Web, logged: list[str]
) -> None:
    apprise.Apprise(url(service)).notify("body")
    assert [line for line in logged if SECRET in line]


@pytest.mark.parametrize("answer", [200, 404, 500, None, "closed"])
def test_nothing_of_a_url_is_printed_or_logged_whatever_the_service_does(
    service: Web,
    store: Store,
    logged: list[str],
    capfd: pytest.CaptureFixture[str],
    answer: int | str | None,
) -> None:
    target = url(service)
    if isinstance(answer, str):
        with web() as closed:
            target = url(closed)
    else:
        service.status = answer
    notification.keep(store, target.encode())
    accepted, warnings = sent(store, FAILED)
    assert accepted == ((FAILED,) if answer == 200 else ())
    shown, refused = notify.test(store)
    assert len(refused) == (answer != 200)
    told = [*warnings, shown, *refused, *logged, *capfd.readouterr()]
    assert [text for text in told if SECRET in text] == []


@pytest.mark.parametrize(
    "line",
    [
        SECRET,
        f"{SECRET} {SECRET}",
        f"jsn://{SECRET}",
        f"{SECRET.upper()}://host",
        f"https://{SECRET}/hook",
        f"slack://{SECRET}",
        f"mailto://{SECRET}",
        f"json://[{SECRET}",
        f"json://host:{SECRET}/x",
        f"schema=json {SECRET}",
        f"\x00{SECRET}",
    ],
)
def test_a_url_that_is_refused_is_told_by_its_line_and_scheme_alone(
    line: str, store: Store, logged: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotifyError) as caught:
        notification.keep(store, f"json://127.0.0.1/\n\n{line}".encode())
    message = caught.value.message
    assert message.startswith("apprise cannot send to line 3 (")
    told = [message, caught.value.hint, *logged, *capfd.readouterr()]
    assert [text for text in told if SECRET.lower() in text.lower()] == []
    assert not store.notify_urls.exists()


def test_an_error_of_a_services_own_code_does_not_come_through(
    store: Store, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    notification.keep(store, f"json://127.0.0.1:1/{SECRET}".encode())

    def burst(*_arguments: object, **_options: object) -> None:
        print(SECRET)
        raise RuntimeError(SECRET)

    monkeypatch.setattr(apprise.Apprise, "notify", burst)
    assert sent(store, FAILED)[0] == ()
    assert SECRET not in "".join(capfd.readouterr())


def test_a_service_shows_no_url_where_it_is_shown_itself() -> None:
    assert repr(Service(1, f"json://{SECRET}")) == "Service(line=1)"
    assert str(Service(1, f"json://{SECRET}")) == "line 1 (json)"


def test_logging_is_as_it_was_afterwards(service: Web, store: Store, logged: list[str]) -> None:
    notification.keep(store, url(service).encode())
    sent(store, FAILED)
    logging.getLogger("certsync").debug("still heard")
    assert logged == ["still heard"]


# Setting


def test_urls_are_kept_one_a_line_for_root_alone(store: Store) -> None:
    store.notify_urls.write_text("json://before/\n")
    told = notify.set_urls(store, b"  json://127.0.0.1/a \r\n\n json://127.0.0.1/b")
    assert told == f"2 services in {store.notify_urls}; test it: certsync notify --test"
    assert store.notify_urls.read_text() == "json://127.0.0.1/a\njson://127.0.0.1/b\n"
    assert store.notify_urls.stat().st_mode & 0o777 == 0o600


def test_a_fleet_without_events_is_told_that_nothing_will_be_sent(store: Store) -> None:
    store.fleet_file.write_text(json.dumps(fleet().to_json()))
    told = notify.set_urls(store, b"json://127.0.0.1/a")
    assert told == (
        f"1 service in {store.notify_urls}; nothing is sent until `events` are set "
        "under [notify] in the fleet file"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no URL was given; nothing was changed"),
        (b" \n\n", "no URL was given; nothing was changed"),
        (b"json://a/\n\xff\n", "line 2 is not UTF-8 text"),
    ],
)
def test_input_without_urls_is_refused_and_what_was_there_stays(
    store: Store, content: bytes, message: str
) -> None:
    store.notify_urls.write_text("json://before/\n")
    with pytest.raises(NotifyError) as caught:
        notify.set_urls(store, content)
    assert caught.value.message == message
    assert caught.value.hint == "write one URL per line"
    assert store.notify_urls.read_text() == "json://before/\n"


def test_urls_cannot_be_set_where_nothing_could_send_to_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(NotifyError, match=NOT_INSTALLED):
        notify.set_urls(store, b"json://127.0.0.1/a")


def test_a_host_that_is_no_issuer_has_nowhere_to_keep_urls(tmp_path: Path) -> None:
    store = Store(tmp_path, tmp_path)
    with pytest.raises(StoreError, match="this host is not an issuer"):
        notify.set_urls(store, b"json://127.0.0.1/a")
    assert not store.notify_urls.exists()


# Trying


def test_a_test_message_goes_to_every_service_and_each_is_told(service: Web, store: Store) -> None:
    notification.keep(store, f"json://127.0.0.1:1/{SECRET}\n{url(service)}".encode())
    shown, refused = notify.test(store)
    assert shown == (
        "line 1 (json): not accepted\nline 2 (json): accepted\n1 of 2 accepted the test message"
    )
    assert refused == ["line 1 (json)"]
    ((_, body),) = service.asked
    assert json.loads(body)["title"] == f"{NAME}: a test message"


def test_without_a_url_there_is_nothing_to_try(store: Store) -> None:
    with pytest.raises(NotifyError) as caught:
        notify.test(store)
    assert (caught.value.message, caught.value.hint) == (
        "no URL is set",
        "`certsync notify --set`",
    )


@pytest.mark.parametrize("options", [[], ["--set", "--test"]])
def test_one_of_setting_and_trying_is_named(options: list[str]) -> None:
    shown = CliRunner().invoke(cli, ["notify", *options])
    assert shown.exit_code == 2
    assert "give either --set or --test" in shown.output
