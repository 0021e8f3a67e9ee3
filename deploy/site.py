"""The whole road in one run, from empty hosts to passthrough.

pyinfra -y inventory/NAME.py deploy/site.py

`certsync deploy inventory/NAME.toml` runs this too, and adds the fleet lock, progress and a table.
"""

from pyinfra import host, inventory, state

from certsync.look import Adopt
from deploy import (
    absent,
    backend,
    balancer,
    issuer,
    keepalived,
    passthrough,
    progress,
    renewal,
    replica,
    road,
)
from deploy.facts import Standing
from deploy.latency import without_delay
from deploy.operations import phase
from deploy.preflight import distrusted, letting_go, refuse_foreign_servers
from deploy.shell import frame_answers

fleet, machine = host.data.fleet, host.data.machine
adopt = Adopt(
    nginx=bool(host.data.get("adopt_nginx")), haproxy=bool(host.data.get("adopt_haproxy"))
)
issuing_host = inventory.get_host(fleet.issuer.name)
replica_hosts = [inventory.get_host(each.name) for each in fleet.replicas]

promoting = bool(host.data.get("promote"))
certificate = host.data.get("certificate") or "issue"

progress.report(state)
without_delay(host)
frame_answers(state)
refuse_foreign_servers(state, fleet, adopt, promoting=promoting)
demoted = promoting and machine in fleet.replicas and host.get_fact(Standing).issuer

phase(name="Phase 1 of 6: packages")

if machine in fleet.backends:
    backend.packages(fleet, machine)

if machine in fleet.balancers:
    balancer.packages()
    balancer.roots(fleet)
    balancer.off_what_goes(fleet, machine, untold=machine.name in distrusted(state))
    keepalived.packages(fleet)

if promoting:
    # Before anything else, so that a CA that refuses leaves everything as it was.
    phase(name="Phase 1 of 6: the new issuer")
    if machine == fleet.issuer:
        issuer.configure(fleet, replica_hosts)
        road.enroll()
    phase(name="The new issuer is there")
    if machine != fleet.issuer:
        absent.taken_over(state, issuing_host)

phase(name="Phase 2 of 6: nginx on every backend, port 80 on the balancer")

if machine in fleet.backends:
    if balancers := letting_go(state):
        absent.let_go(state, balancers, name="No balancer sends to what goes away here")
    backend.configure(fleet, machine)
    if not fleet.share_tickets:
        absent.tickets()

if machine in fleet.balancers:
    balancer.configure(fleet, machine)
    keepalived.configure(fleet, machine)

if machine == fleet.issuer and not promoting:
    issuer.configure(fleet, replica_hosts)

phase(name="Phase 3 of 6: the way from the issuer to the replicas")

if machine in fleet.replicas:
    replica.configure(fleet, issuing_host)
    if not fleet.share_tickets:
        absent.tickets_inbox()

if promoting and machine == fleet.issuer:
    absent.access()

phase(name="Phase 4 of 6: the certificate")

if machine == fleet.issuer:
    # What else a command has come for: `add-backend` brings the certificate that there is.
    if certificate == "issue":
        road.issue()
    if certificate == "take-over":
        road.take_over()
    # From here on it renews, heals and proves by itself, whatever becomes of this deploy.
    renewal.scheduled(fleet)

phase(name="Phase 5 of 6: replication and proof")

if machine == fleet.issuer:
    road.replicate(state, replica_hosts if promoting else [])
    if fleet.share_tickets:
        road.share_tickets(state, replica_hosts if promoting else [])

phase(name="Phase 6 of 6: passthrough, for what has been proven")

if machine in fleet.balancers:
    passthrough.gate(fleet, machine, issuing_host)

if demoted:
    absent.taken_over(state, issuing_host)
    # One that may not resign yet goes on with its hourly runs.
    road.resign()
    absent.runs()
    absent.issuing()
