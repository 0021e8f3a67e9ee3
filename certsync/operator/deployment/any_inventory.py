"""pyinfra's inventory of a fleet file that has none of its own beside it."""

import os
from pathlib import Path

from certsync.operator.deployment.inventory import groups

backends, issuer, replicas, balancers = groups(Path(os.environ["CERTSYNC_FLEET"]))
