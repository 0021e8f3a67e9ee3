"""The framework of providers' doubles, tried on one of a lamp."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import requests

from tests.doubles.contract import Answer, Ask, Double, Fault, Refusal, differences, serve
from tests.doubles.schema import mistakes

LAMP = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}, "watts": {"type": "integer", "maximum": 100}},
    "required": ["on"],
}
SCHEMA = {
    "operations": {
        "GET /lamps/{lamp}": {
            "query": {"page": {"type": "integer"}},
            "answers": {"200": {"$ref": "lamp"}},
        },
        "PUT /lamps/{lamp}": {"body": {"$ref": "lamp"}, "answers": {"200": {"$ref": "lamp"}}},
    },
    "error": {"type": "object", "properties": {"message": {"type": "string"}}},
    "named": {"lamp": LAMP},
}


class Lamps(Double):
    """A provider of lamps."""

    schema = SCHEMA

    def __init__(self) -> None:
        self.time = 0.0
        super().__init__("secret", lambda: self.time)
        self.state: dict[str, Any] = {"7": {"on": False}}

    def operations(self) -> Mapping[str, Callable[[Ask], Answer]]:
        return {"GET /lamps/{lamp}": self._show, "PUT /lamps/{lamp}": self._set}

    def error(self, status: int, words: str) -> Answer:
        return Answer(status, {"message": words})

    def _show(self, ask: Ask) -> Answer:
        if ask.parts["lamp"] not in self.state:
            raise Refusal(404, "no such lamp")
        return Answer(200, self.state[ask.parts["lamp"]])

    def _set(self, ask: Ask) -> Answer:
        self.state[ask.parts["lamp"]] = ask.body
        return Answer(200, ask.body)


Send = Callable[..., requests.Response]


@pytest.fixture
def lamps() -> Lamps:
    return Lamps()


@pytest.fixture
def send(lamps: Lamps) -> Iterator[Send]:
    with serve(lamps) as base:

        def one(method: str, path: str, body: Any = None, token: str = "secret") -> Any:
            headers = {"Authorization": f"Bearer {token}"}
            return requests.request(method, f"{base}{path}", json=body, headers=headers, timeout=5)

        yield one


def test_what_is_set_is_kept_and_the_log_tells_what_changed(lamps: Lamps, send: Send) -> None:
    assert send("PUT", "/lamps/7", {"on": True, "watts": 9}).status_code == 200
    assert send("GET", "/lamps/7?page=1").json() == {"on": True, "watts": 9}
    assert [(each.method, each.path, each.status) for each in lamps.calls] == [
        ("PUT", "/lamps/7", 200), ("GET", "/lamps/7", 200),
    ]  # fmt: skip
    assert lamps.calls[0].changed == {"7.on": (False, True), "7.watts": (None, 9)}
    assert [each.method for each in lamps.changing] == ["PUT"]
    assert lamps.refused == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "wrong"),
    [
        ("PUT", "/lamps/7", {"on": "yes"}, 422, "no boolean"),
        ("PUT", "/lamps/7", {"on": 1}, 422, "no boolean"),
        ("PUT", "/lamps/7", {"on": True, "wats": 1}, 422, "unknown wats"),
        ("PUT", "/lamps/7", {"watts": 1}, 422, "has no on"),
        ("PUT", "/lamps/7", {"on": True, "watts": 101}, 422, "range"),
        ("PUT", "/lamps/7", None, 422, "no object"),
        ("GET", "/lamps/7", {}, 422, "none is wanted"),
        ("GET", "/lamps/7?pge=1", None, 422, "unknown pge"),
        ("POST", "/lamps/7", None, 404, "no such operation"),
        ("GET", "/lamps/7/8", None, 404, "no such operation"),
    ],
)
def test_what_the_schema_does_not_have_is_refused_and_changes_nothing(
    lamps: Lamps, send: Send, method: str, path: str, body: Any, status: int, wrong: str
) -> None:
    assert send(method, path, body).status_code == status
    assert wrong in lamps.refused[0]
    assert lamps.calls[0].changed == {}


def test_what_the_double_itself_refuses_is_no_mistake_of_form(lamps: Lamps, send: Send) -> None:
    assert send("GET", "/lamps/8").status_code == 404
    assert send("GET", "/lamps/7", token="other").status_code == 401
    assert lamps.refused == []


@pytest.mark.parametrize("state", [{"7": {"on": None}}, {"7": {"on": True, "of": 1}}, {"7": 1}])
def test_an_answer_of_the_doubles_own_that_breaks_the_schema_is_found(
    lamps: Lamps, state: dict[str, Any]
) -> None:
    lamps.state = state
    headers = {"Authorization": "Bearer secret"}
    with pytest.raises(AssertionError, match="the double itself"), serve(lamps) as base:
        requests.get(f"{base}/lamps/7", headers=headers, timeout=5)


def test_a_double_that_fails_is_found(lamps: Lamps) -> None:
    del lamps.state
    cut = pytest.raises(requests.ConnectionError)
    with pytest.raises(AssertionError, match="AttributeError"), serve(lamps) as base, cut:
        requests.get(f"{base}/lamps/7", timeout=5)


def test_faults_before_and_after_the_change_and_for_a_while(lamps: Lamps, send: Send) -> None:
    lamps.faults = [
        Fault("PUT *", 429, headers={"Retry-After": "7"}),
        Fault("PUT *", 500, carried_out=True),
        Fault("GET *", 403, "busy", seconds=10),
    ]
    first = send("PUT", "/lamps/7", {"on": True})
    assert (first.status_code, first.headers["Retry-After"]) == (429, "7")
    assert lamps.state["7"] == {"on": False}
    assert send("PUT", "/lamps/7", {"on": True}).status_code == 500
    assert lamps.state["7"] == {"on": True}
    assert send("PUT", "/lamps/7", {"on": False}).status_code == 200
    for lamps.time, status in ((0, 403), (9, 403), (10, 200)):
        assert send("GET", "/lamps/7").status_code == status
    assert lamps.faults == []


def test_a_cut_connection_another_writer_and_one_that_passes(lamps: Lamps, send: Send) -> None:
    lamps.faults = [
        Fault("PUT *", cut=True),
        Fault("GET *", meanwhile=lambda state: state["7"].update(watts=5)),
        Fault("GET *", 404, passing=1),
    ]
    with pytest.raises(requests.ConnectionError):
        send("PUT", "/lamps/7", {"on": True})
    assert send("GET", "/lamps/7").json() == {"on": True, "watts": 5}
    assert [each.status for each in lamps.calls] == [0, 200]
    assert lamps.calls[1].changed == {}, "the other writer's change is not this call's"
    assert send("GET", "/lamps/7").status_code == 200
    assert send("GET", "/lamps/7").status_code == 404


def test_differences_are_told_field_by_field() -> None:
    before = {"a": {"b": 1, "c": [1]}, "d": 2}
    assert differences(before, {"a": {"b": 1, "c": [2]}, "e": 3}) == {
        "a.c": ([1], [2]), "d": (2, None), "e": (None, 3),
    }  # fmt: skip
    assert differences(before, before) == {}


def test_the_words_of_a_schema() -> None:
    either = {"type": "object", "properties": {"a": {}, "b": {}}, "one_of": ["a", "b"]}
    assert mistakes(either, {"a": 1}, {}) == []
    assert mistakes(either, {"a": 1, "b": 1}, {}) == ["the body has not exactly one of a, b"]
    assert mistakes({"type": ["string", "null"], "enum": ["x", None]}, None, {}) == []
    assert len(mistakes({"enum": ["x"]}, "y", {})) == 1
    assert len(mistakes({"pattern": "^a+$"}, "ab", {})) == 1
    assert len(mistakes({"items": {"type": "number"}, "maxItems": 1}, [1.5, 2], {})) == 1
    with pytest.raises(AssertionError, match="itself has"):
        mistakes({"typ": "string"}, 1, {})
