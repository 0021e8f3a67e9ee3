"""A backend leaves the fleet: no new connections, out of the pools, access cut, its key gone.

Which one, `certsync remove-backend` says: it is among the backends of the inventory, and not in the
fleet that the hosts' data holds. One that is gone for good is left out of the run.
"""

from pyinfra import host, inventory, state

from deploy import absent, balancer, issuer, progress, road
from deploy.operations import phase

fleet, machine = host.data.fleet, host.data.machine
name = host.data.leaving
leaving = machine.name == name
replica_hosts = [inventory.get_host(each.name) for each in fleet.replicas]

progress.report(state)

phase(name="Phase 1 of 5: no new connections")

if machine in fleet.balancers:
    balancer.drain(name)

phase(name="Phase 2 of 5: out of the pools")

if machine in fleet.balancers:
    balancer.without(fleet)

phase(name="Phase 3 of 5: no more pushes")

if machine == fleet.issuer:
    issuer.forget(fleet, replica_hosts, host.data.leaving_address)

if leaving:
    absent.access()

phase(name="Phase 4 of 5: the last connections, then key and certificate")

if leaving:
    absent.connections(int(host.data.drain_seconds))
    absent.programs()
    absent.site(fleet)

phase(name="Phase 5 of 5: the keys")

if machine == fleet.issuer and host.data.get("compromised"):
    road.compromised(name)
