"""What inventory files beside fleet files import: the door by which pyinfra finds the fleet.

It stands here, and not with the rest of the operator's side, because people's files name it.
"""

from certsync.operator.deployment.inventory import groups

__all__ = ["groups"]
