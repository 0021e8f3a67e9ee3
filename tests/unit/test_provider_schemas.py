"""Our schemas of providers' APIs have nothing that the providers' own documents do not have."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.doubles import openapi
from tests.doubles.contract import SCHEMAS, schema_of
from tests.doubles.openapi import differences_to, folder

COLOUR = {"type": "string", "enum": ["red", "green"]}
DOCUMENT: dict[str, Any] = {
    "paths": {
        "/lamps/{id}": {
            "put": {
                "parameters": [{"$ref": "#/components/parameters/page"}],
                "requestBody": {"content": {"application/json": {"schema": {
                    "oneOf": [
                        {"allOf": [
                            {"$ref": "#/components/schemas/lamp"},
                            {"properties": {"room": {"type": "integer", "minimum": 1}}},
                        ], "required": ["on", "room"]},
                        {"allOf": [{"$ref": "#/components/schemas/lamp"}], "required": ["on"]},
                    ],
                }}}},
                "responses": {
                    "200": {"content": {"application/json": {
                        "schema": {"$ref": "#/components/schemas/lamp"},
                    }}},
                    "default": {"content": {"application/json": {
                        "schema": {"properties": {"message": {"type": "string"}}},
                    }}},
                },
            },
        },
    },
    "components": {
        "parameters": {"page": {"in": "query", "name": "page", "schema": {"type": "integer"}}},
        "schemas": {"lamp": {
            "properties": {
                "id": {"type": "integer", "readOnly": True},
                "on": {"type": "boolean", "nullable": True},
                "colours": {"type": "array", "items": COLOUR, "minItems": 1},
            },
        }},
    },
}  # fmt: skip
OURS: dict[str, Any] = {
    "operations": {
        "PUT /lamps/{lamp}": {
            "query": {"page": {"type": "integer"}},
            "body": {"$ref": "lamp"},
            "answers": {"200": {"type": "object", "properties": {"id": {"type": "integer"}}}},
        },
    },
    "error": {"type": "object", "properties": {"message": {"type": "string"}}},
    "named": {"lamp": {
        "type": "object",
        "properties": {
            "on": {"type": ["boolean", "null"]},
            "room": {"type": "integer", "minimum": 2},
            "colours": {"type": "array", "items": COLOUR, "minItems": 1},
            "watts": {"type": "integer", "source": "the lamp's manual"},
        },
        "required": ["on"],
    }},
}  # fmt: skip


def test_a_schema_that_is_as_the_document_has_nothing_to_tell() -> None:
    assert differences_to(OURS, DOCUMENT) == []


@pytest.mark.parametrize(
    ("place", "planted", "words"),
    [
        ("watts", {"type": "integer"}, "there is no watts"),
        ("on", {"type": "string"}, "is ['boolean', 'null'] there, not ['string']"),
        ("room", {"type": "integer"}, "has minimum 1 there"),
        ("room", {"type": "integer", "minimum": 0}, "has minimum 1 there"),
        ("id", {"type": "integer"}, "is only read there"),
        (
            "colours",
            {"type": "array", "minItems": 1, "items": {"type": "string", "enum": ["blue"]}},
            "is none of ['blue'] there",
        ),
        (
            "colours",
            {"type": "array", "minItems": 1, "items": {"type": "string"}},
            "is one of ['red', 'green'",
        ),
    ],
)
def test_a_wrong_field_of_ours_is_found(place: str, planted: Any, words: str) -> None:
    ours = deepcopy(OURS)
    ours["named"]["lamp"]["properties"][place] = planted
    assert words in "\n".join(differences_to(ours, DOCUMENT))


def test_a_wrong_operation_answer_query_or_required_name_is_found() -> None:
    ours = deepcopy(OURS)
    form = ours["operations"]["PUT /lamps/{lamp}"]
    form["answers"]["204"] = None
    form["query"]["size"] = {"type": "integer"}
    ours["operations"]["GET /lamps"] = {"answers": {}}
    ours["named"]["lamp"]["required"] = []
    ours["error"]["properties"]["words"] = {"type": "string"}
    assert sorted(differences_to(ours, DOCUMENT)) == [
        "GET /lamps is not there",
        "PUT /lamps/{lamp} does not answer 204",
        "PUT /lamps/{lamp}: body: on is required there",
        "PUT /lamps/{lamp}: error: there is no words",
        "PUT /lamps/{lamp}: query: there is no size",
    ]


def test_our_schemas_are_as_the_providers_documents_where_those_are_at_hand() -> None:
    """Without the documents there is nothing to compare, and the doubles are as they were."""
    found = folder()
    if found is None:
        return
    for path in SCHEMAS.glob("*.json"):
        documents = list(found.glob(f"{path.stem}-*.json"))
        assert documents, f"{found} has no document of {path.stem}"
        document = json.loads(documents[0].read_text())
        assert differences_to(schema_of(path.stem), document) == []


def test_the_documents_are_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CERTSYNC_OPENAPI", str(tmp_path))
    assert folder() == tmp_path
    monkeypatch.setenv("CERTSYNC_OPENAPI", str(tmp_path / "none"))
    with pytest.raises(AssertionError, match="names no folder"):
        folder()
    monkeypatch.delenv("CERTSYNC_OPENAPI")
    monkeypatch.setattr(openapi, "ROOT", tmp_path / "checkout")
    assert folder() is None
    (tmp_path / "shared/openapi").mkdir(parents=True)
    assert folder() == tmp_path / "shared/openapi"
