"""What inventory files import to give pyinfra the fleet.

Kept outside `operator` because inventory files on people's machines import this name.
"""

from certsync.operator.deployment.inventory import groups

__all__ = ["groups"]
