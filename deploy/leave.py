"""Remove certsync from every host; nginx, HAProxy and the certificates stay and keep serving."""

from pyinfra import host, inventory, state

from certsync.operator.deployment.operations import Phase
from deploy import absent, fellows, progress, road, surveys
from deploy.carried_out import carried_out, phase

fleet, machine = host.data.fleet, host.data.machine
# An unreachable issuer does not hold up the others.
issuer = inventory.get_host(fleet.issuer_name)
needed = [issuer] if issuer in state.activated_hosts else []

progress.report(state)
progress.go_on()
surveys.ask_all(state)

phase(Phase(1, 3, "close the account, stop renewals"))

if machine in fleet.backends:
    road.close_account()
    carried_out(name="Renewal", plans=[absent.runs])

phase(Phase(2, 3, "stop pushes"))

if machine in fleet.backends:
    # An issuer that cannot be retired yet still has to reach the others.
    fellows.require_released(state, needed, name="The issuer has finished")
    carried_out(name="Access", plans=[absent.access, absent.issuing])

phase(Phase(3, 3, "remove certsync"))

if machine in fleet.backends:
    # Otherwise nginx would need keys at its next start that nothing makes now.
    carried_out(name="The rest", plans=[absent.tickets, absent.programs])
