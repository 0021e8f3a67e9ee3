"""Remove a backend from the fleet: drain it, remove it from the pools, stop pushes, delete its key.

`certsync remove-backend` says which one: it is among the inventory's backends, but not in the fleet
in the hosts' data. A backend that no longer exists is left out of the run.
"""

from functools import partial

from pyinfra import host, inventory, state

from certsync.operator.deployment import operations
from certsync.operator.deployment.operations import Phase
from deploy import absent, balancer, fellows, issuer, progress, road, surveys
from deploy.carried_out import carried_out, phase

fleet, machine = host.data.fleet, host.data.machine
name = host.data.leaving
leaving = machine.name == name
replica_hosts = [inventory.get_host(each.name) for each in fleet.replicas]
balancer_hosts = [inventory.get_host(each.name) for each in fleet.balancers]
issuing_host = inventory.get_host(fleet.issuer_name)

progress.report(state)
progress.go_on()
surveys.ask_all(state)

phase(Phase(1, 6, "no new connections"))

if machine in fleet.balancers:
    carried_out(name="Drain", plans=[partial(balancer.drain, name, fleet, machine)])

phase(operations.OUT_OF_THE_POOLS)

if machine in fleet.balancers:
    carried_out(name="Pools", plans=[partial(balancer.without, fleet, machine)])

phase(Phase(3, 6, "remove it from the issuer"))

if machine == fleet.issuer:
    # Compromised keys do not wait for balancers.
    if not host.data.compromised:
        fellows.require_released(state, balancer_hosts, name="The balancers have finished")
    plan = partial(
        issuer.forgetting,
        fleet,
        host.data.fleet_sum,
        replica_hosts,
        name=name,
        address=host.data.leaving_address,
    )
    carried_out(name="Issuer", plans=[plan])

phase(Phase(4, 6, "stop pushes to it"))

if leaving:
    others = [issuing_host, *balancer_hosts]
    fellows.require_released(state, others, name="The others have finished")
    carried_out(name="Access", plans=[absent.access])

phase(Phase(5, 6, "wait for the last connections, then delete key and certificate"))

if leaving:
    plans = [
        partial(absent.connections, fleet, host.data.drain_seconds),
        absent.tickets,
        absent.programs,
        partial(absent.site, fleet),
    ]
    carried_out(name="Removal", plans=plans)

phase(Phase(6, 6, "the keys"))

if machine == fleet.issuer and host.data.compromised:
    road.compromised(name)
