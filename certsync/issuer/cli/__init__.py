"""The issuer's commands. A command's libraries are loaded only when it is called."""

from certsync.issuer.cli import by_hand, for_operator

__all__ = ["by_hand", "for_operator"]
