"""Make changes to files all at once: each new one is written beside its place, then all renamed.

usage: change.py FOLDER CHANGES      CHANGES is JSON: a list of [verb, path, what]

- place: have the file FOLDER/what at the path, root's, readable by all;
- link: have a symbolic link to `what` there;
- remove: have nothing there.

One who is killed leaves all of it or nothing: between the first and the last rename there are
microseconds, so that a configuration of several files does not stay half old and half new.
"""

import json
import os
import sys
from pathlib import Path

BESIDE = ".certsync-new"


def beside(path: Path) -> Path:
    """Return where what is to be at a path lies before."""
    return path.with_name(path.name + BESIDE)


def prepare(folder: Path, verb: str, path: Path, what: str) -> None:
    """Have what is to be at a path beside it."""
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
    """Have at a path what lies beside it, or nothing."""
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
