"""Real Debian hosts on one machine, with a test CA, for the demo and the end-to-end tests.

Only the standard library is used here, so that `lab/lab` runs with the system's Python.
Nothing of certsync is imported: the lab is the ground the product is tried on.
"""

from lab.errors import LabError
from lab.machine import Machine
from lab.world import Lab

__all__ = ["Lab", "LabError", "Machine"]
