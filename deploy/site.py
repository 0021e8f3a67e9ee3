"""The whole deploy in one run, from empty hosts to passthrough.

pyinfra -y inventory/NAME.py deploy/site.py

`certsync deploy inventory/NAME.toml` runs this too, and adds the fleet lock, progress and a table.
"""

from functools import partial

from pyinfra import host, inventory, state

from certsync.operator.deployment import operations, request
from certsync.operator.hosts.facts import Adopt
from certsync.operator.hosts.objections import is_copy_of_issuer
from deploy import (
    absent,
    answers,
    backend,
    balancer,
    fellows,
    issuer,
    keepalived,
    passthrough,
    progress,
    renewal,
    replica,
    road,
    surveys,
)
from deploy.carried_out import barrier, carried_out, phase
from deploy.preflight import letting_go, no_longer_trusted, refuse_foreign_servers

fleet, machine = host.data.fleet, host.data.machine
adopt = Adopt(nginx=host.data.adopt_nginx, haproxy=host.data.adopt_haproxy)
issuing_host = inventory.get_host(fleet.issuer.name)
replica_hosts = [inventory.get_host(each.name) for each in fleet.replicas]

promoting = host.data.promoting
# NOT_YET: the run ends after phase 3, to prepare hosts for later.
certificate = host.data.certificate

progress.report(state)
# Before the hosts are surveyed: the previous holder of the lock may have changed them.
progress.go_on()
if certificate == request.ISSUE and not promoting:
    # In advance: the replicas' answers to the issuer take as long as the surveys.
    answers.ask_ahead(issuing_host)
refuse_foreign_servers(state, fleet, adopt, promoting=promoting)
has_marker = machine in fleet.replicas and surveys.of(host).facts.issuer
copied = has_marker and is_copy_of_issuer(surveys.of(host).facts)
# In a promotion nobody gives up the role before the new issuer has it, not even a copy.
demoted = promoting and has_marker

phase(operations.PACKAGES)

if copied and not promoting:
    carried_out(name="A copy of the issuer becomes a replica", plans=[absent.runs, absent.issuing])

if machine in fleet.backends:
    carried_out(name="Packages", plans=[partial(backend.packages, fleet, machine)])

if machine in fleet.balancers:
    without_client_address = machine.name in no_longer_trusted(state)
    plans = [
        balancer.packages,
        partial(balancer.roots, fleet),
        partial(
            balancer.drop_outgoing, fleet, machine, without_client_address=without_client_address
        ),
        partial(keepalived.packages, fleet),
    ]
    carried_out(name="Packages and routes to be removed", plans=plans)

if promoting:
    # First of all, so that nothing has changed if the CA refuses.
    phase(operations.NEW_ISSUER)
    if machine == fleet.issuer:
        plan = partial(issuer.planned, fleet, host.data.fleet_sum, replica_hosts, promoting=True)
        carried_out(name="Issuer", plans=[plan])
        road.register()
    barrier(name="The new issuer is ready")
    if machine != fleet.issuer:
        fellows.require_taken_over(state, issuing_host)

phase(operations.CONFIGURATION)

if machine in fleet.backends:
    if balancers := letting_go(state):
        fellows.require_released(state, balancers, name="No balancer uses what is removed here")
    plans = [partial(backend.configure, fleet, machine, adopt=adopt.nginx)]
    if not fleet.share_tickets:
        plans.append(absent.tickets)
    if machine in fleet.replicas:
        plans.append(partial(replica.prepare, fleet))
    if machine == fleet.issuer and not promoting:
        plans.append(partial(issuer.planned, fleet, host.data.fleet_sum, replica_hosts))
    carried_out(name="Backend", plans=plans)

if machine in fleet.balancers:
    plans = [
        partial(balancer.configure, fleet, machine, adopt=adopt.haproxy),
        partial(keepalived.configure, fleet, machine),
    ]
    carried_out(name="Balancer", plans=plans)

phase(operations.ADMISSION)

if machine in fleet.replicas:
    plans = [partial(replica.admitted, fleet, issuing_host)]
    if not fleet.share_tickets:
        plans.append(absent.tickets_inbox)
    carried_out(name="Replica", plans=plans)

if promoting and machine == fleet.issuer:
    carried_out(name="No longer a replica", plans=[absent.access])

phase(operations.CERTIFICATE)

if machine == fleet.issuer and certificate != request.NOT_YET:
    # `add-backend` does neither: it only replicates the existing certificate.
    if certificate == request.ISSUE:
        road.issue()
    if certificate == request.TAKE_OVER:
        road.take_over()
    # From here on it renews, heals and proves by itself, even if this deploy fails.
    carried_out(name="Renewal", plans=[partial(renewal.scheduled, fleet)])

phase(operations.REPLICATION)

if machine == fleet.issuer and certificate != request.NOT_YET:
    road.replicate(state, replica_hosts if promoting else [])
    if fleet.share_tickets:
        road.share_tickets(state, replica_hosts if promoting else [])

phase(operations.PASSING)

if machine in fleet.balancers and certificate != request.NOT_YET:
    carried_out(name="Gate", plans=[partial(passthrough.gate, fleet, machine, issuing_host)])

if machine == fleet.issuer and fleet.balancer.provider.is_driven:
    progress.note_of_balancer(host)

if demoted:
    fellows.require_taken_over(state, issuing_host)
    # If its account cannot be closed yet, it keeps its hourly runs. A copy's is the issuer's, too.
    if not copied:
        road.close_account()
    carried_out(name="No longer the issuer", plans=[absent.runs, absent.issuing])
