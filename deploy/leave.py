"""certsync leaves every host; nginx, HAProxy and the certificates stay and go on serving."""

from pyinfra import host, inventory, state

from certsync.operator.deployment.operations import Phase
from deploy import absent, fellows, progress, road, surveys
from deploy.carried_out import carried_out, phase
from deploy.shell import frame_answers

fleet, machine = host.data.fleet, host.data.machine
# One that is not reached at all keeps nobody.
issuer = inventory.get_host(fleet.issuer_name)
needed = [issuer] if issuer in state.activated_hosts else []

progress.report(state)
frame_answers(state)
progress.go_on()
surveys.ask_all(state)

phase(Phase(1, 3, "close the account, stop renewals"))

if machine in fleet.backends:
    road.close_account()
    carried_out(name="Renewal", plans=[absent.runs])

phase(Phase(2, 3, "stop pushes"))

if machine in fleet.backends:
    # An issuer that may not go yet has to reach the others still.
    fellows.require_released(state, needed, name="The issuer has let it go")
    carried_out(name="Access", plans=[absent.access, absent.issuing])

phase(Phase(3, 3, "remove certsync"))

if machine in fleet.backends:
    # nginx would look for keys at its next start that nobody makes any more.
    carried_out(name="What is left", plans=[absent.tickets, absent.programs])
