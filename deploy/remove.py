"""A backend leaves the fleet: no new connections, out of the pools, access cut, its key gone.

Which one, `certsync remove-backend` says: it is among the backends of the inventory, and not in the
fleet that the hosts' data holds. One that is gone for good is left out of the run.
"""

from pyinfra import host, inventory, state

from deploy import absent, balancer, issuer, progress, road
from deploy.latency import without_delay
from deploy.operations import phase
from deploy.shell import frame_answers

fleet, machine = host.data.fleet, host.data.machine
name = host.data.leaving
leaving = machine.name == name
replica_hosts = [inventory.get_host(each.name) for each in fleet.replicas]
balancer_hosts = [inventory.get_host(each.name) for each in fleet.balancers]
issuing_host = inventory.get_host(fleet.issuer_name)

progress.report(state)
without_delay(host)
frame_answers(state)

phase(name="Phase 1 of 6: no new connections")

if machine in fleet.balancers:
    balancer.drain(name)

phase(name="Phase 2 of 6: out of the pools")

if machine in fleet.balancers:
    balancer.without(fleet, machine)

phase(name="Phase 3 of 6: the issuer forgets it")

if machine == fleet.issuer:
    # Keys in wrong hands wait for no balancer.
    if not host.data.get("compromised"):
        absent.let_go(state, balancer_hosts, name="The balancers have let it go")
    issuer.forget(fleet, replica_hosts, name, host.data.leaving_address)

phase(name="Phase 4 of 6: no more pushes")

if leaving:
    absent.let_go(state, [issuing_host, *balancer_hosts], name="The others have let it go")
    absent.access()

phase(name="Phase 5 of 6: the last connections, then key and certificate")

if leaving:
    absent.connections(fleet, int(host.data.drain_seconds))
    absent.tickets()
    absent.programs()
    absent.site(fleet)

phase(name="Phase 6 of 6: the keys")

if machine == fleet.issuer and host.data.get("compromised"):
    road.compromised(name)
