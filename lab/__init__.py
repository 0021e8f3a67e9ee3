"""Real Debian hosts on one machine, with a test CA, for the demo and the end-to-end tests.

It uses only the standard library, so that `lab/lab` runs with the system's Python, and imports
nothing from certsync.
"""

from lab.errors import LabError
from lab.machine import Machine
from lab.world import Lab

__all__ = ["Lab", "LabError", "Machine"]
