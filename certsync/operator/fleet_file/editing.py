"""Changes the text of a fleet file and keeps people's comments."""

from __future__ import annotations

import re
from pathlib import Path

import tomlkit
from tomlkit.items import Table

from certsync.operator.change import Addition, Change
from certsync.system.files import write_whole

HEADER = re.compile(r"\s*\[")


def changed(text: str, change: Change) -> str:
    """Return a fleet file's text with the change applied.

    Applying a change twice is harmless.
    """
    for name in change.remove:
        text = _without(text, name)
    document = tomlkit.parse(text)
    tables = (document, *document.get("lineages", {}).values())
    for table in tables:
        serving = table.get("served_by", [])
        for name in change.remove:
            # The last one stays: an empty list would mean all. The file's check reports it.
            if name in serving and len(serving) > 1:
                serving.remove(name)
    for each in change.add:
        backends = document.setdefault("backends", tomlkit.table(is_super_table=True))
        if each.name not in backends:
            backends[each.name] = _table(each)
        for table in tables:
            serving, names = table.get("served_by", []), table.get("names", [])
            # Without a served_by, all serve it.
            if serving and each.name not in serving and set(names[:1]) & set(each.serves):
                serving.append(each.name)
    if change.issuer and document.get("issuer") != change.issuer:
        document["issuer"] = change.issuer
    return tomlkit.dumps(document)


def _table(each: Addition) -> Table:
    table = tomlkit.table()
    table["address"] = each.address
    if each.private_address:
        table["private_address"] = each.private_address
    return table


def _without(text: str, name: str) -> str:
    """Return the text without a backend; a comment on the machine after it stays."""
    document = tomlkit.parse(text)
    if name not in document.get("backends", {}):
        return text
    wanted = document.unwrap()
    del wanted["backends"][name]
    cut = _cut(text, name)
    if cut and tomlkit.parse(cut).unwrap() == wanted:
        return cut
    # In an unusual form: an inline table, or dotted keys.
    del document["backends"][name]
    return tomlkit.dumps(document)


def _cut(text: str, name: str) -> str:
    """Return the text without the backend's section; empty: it has no header of its own."""
    lines = text.splitlines(keepends=True)
    own = re.compile(rf"\s*\[\s*backends\s*\.\s*([\"']?){re.escape(name)}\1\s*\]")
    start = next((index for index, line in enumerate(lines) if own.match(line)), None)
    if start is None:
        return ""
    after = [index for index in range(start + 1, len(lines)) if HEADER.match(lines[index])]
    end = min(after, default=len(lines))
    values = [i for i in range(start, end) if lines[i].strip() and lines[i].lstrip()[0] != "#"]
    stop = values[-1] + 1
    # Comments right below its last line belong to it; those after an empty line do not.
    while stop < end and lines[stop].strip():
        stop += 1
    rest = lines[stop:]
    before = lines[:start]
    while rest and before and not rest[0].strip() and not before[-1].strip():
        rest = rest[1:]
    return "".join([*before, *rest]).rstrip("\n") + "\n"


def write(path: Path, text: str) -> None:
    """Replace a fleet file atomically; keep its mode, and a link to it."""
    file = path.resolve()
    write_whole(file, text.encode(), mode=file.stat().st_mode & 0o777)
