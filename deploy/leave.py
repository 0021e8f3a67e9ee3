"""certsync leaves every host; nginx, HAProxy and the certificates stay and go on serving."""

from pyinfra import host, state

from deploy import absent, progress
from deploy.operations import phase

fleet, machine = host.data.fleet, host.data.machine

progress.report(state)

phase(name="Phase 1 of 3: no more renewals")

if machine in fleet.backends:
    absent.runs()

phase(name="Phase 2 of 3: no more pushes")

if machine in fleet.backends:
    absent.access()
    absent.issuing()

phase(name="Phase 3 of 3: no more certsync")

if machine in fleet.backends:
    absent.programs()
