"""The operator's commands. A command's libraries are loaded only when it is called."""

from certsync.operator.cli import building, changing, looking

__all__ = ["building", "changing", "looking"]
