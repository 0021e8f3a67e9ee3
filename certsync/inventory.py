"""What inventory files import to give pyinfra the fleet.

Kept outside `operator` because inventory files on people's machines import this name.
"""

import sys
from pathlib import Path

from certsync.operator.deployment import inventory
from certsync.operator.deployment.inventory import Group


def groups(path: Path) -> tuple[Group, Group, Group, Group]:
    """Return the groups of hosts of a fleet file, and let pyinfra reach them by OpenSSH.

    Raises:
        SystemExit: the file cannot be read or has mistakes; the message lists them all.
    """
    if "pyinfra_cli" in sys.modules:
        # Only pyinfra's own process has deploy/ on its path.
        from deploy.shell import use_openssh

        use_openssh()
    return inventory.groups(path)
