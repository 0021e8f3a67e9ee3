"""The operator's commands. A command's libraries are imported only when it runs."""

from certsync.operator.cli import building, changing, looking

__all__ = ["building", "changing", "looking"]
