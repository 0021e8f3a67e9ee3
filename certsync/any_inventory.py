"""pyinfra's inventory for a fleet file that has no inventory file of its own."""

import os
from pathlib import Path

from certsync.inventory import groups

backends, issuer, replicas, balancers = groups(Path(os.environ["CERTSYNC_FLEET"]))
