"""Change several files at once: write each new one beside its target, then rename them all.

usage: change.py FOLDER CHANGES      CHANGES is JSON: a list of [verb, path, what]

- place: put the file FOLDER/what at the path, owned by root, readable by all;
- link: put a symbolic link to `what` there;
- remove: remove what is there.

If killed, it leaves all changes or none: the renames take microseconds, so a configuration of
several files does not stay half old and half new.
"""

import json
import os
import sys
from pathlib import Path

BESIDE = ".certsync-new"


def beside(path: Path) -> Path:
    """Return where the new version of a path is prepared."""
    return path.with_name(path.name + BESIDE)


def prepare(folder: Path, verb: str, path: Path, what: str) -> None:
    """Prepare the new version of a path beside it."""
    new = beside(path)
    new.unlink(missing_ok=True)
    if verb == "link":
        new.symlink_to(what)
    if verb == "place":
        with new.open("xb") as target:
            target.write((folder / what).read_bytes())
            target.flush()
            os.fchmod(target.fileno(), 0o644)
            os.fsync(target.fileno())


def make(verb: str, path: Path) -> None:
    """Replace a path with its prepared version, or remove it."""
    if verb == "remove":
        path.unlink(missing_ok=True)
    else:
        beside(path).replace(path)


def main(folder: str, changes: str) -> None:
    """Make all changes."""
    wanted = json.loads(Path(changes).read_text())
    for verb, path, what in wanted:
        prepare(Path(folder), verb, Path(path), what)
    for verb, path, _ in wanted:
        make(verb, Path(path))


if __name__ == "__main__":
    main(*sys.argv[1:])
