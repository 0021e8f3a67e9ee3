"""What has to be told of Outscale's API: rights, and what to try.

Sources: as in `outscale.py`.
"""

from __future__ import annotations

VARIABLES = "OSC_ACCESS_KEY and OSC_SECRET_KEY, or AWS' own variables or profile: are they right?"
RIGHTS = (
    "elasticloadbalancing: DescribeLoadBalancers, DescribeLoadBalancerPolicies, "
    "DescribeInstanceHealth, DescribeTags, CreateLoadBalancerPolicy, "
    "SetLoadBalancerPoliciesForBackendServer, CreateLoadBalancerListeners, "
    "DeleteLoadBalancerListeners, ConfigureHealthCheck, RegisterInstancesWithLoadBalancer, "
    "DeregisterInstancesFromLoadBalancer; ec2: DescribeInstances"
)
HINTS = {
    "DuplicateListener": "somebody else has just made this listener: run it again",
    "DuplicatePolicyName": "somebody else has just made this policy: run it again",
    "InvalidInstance": "is the VM in the load balancer's Net, and is it running?",
    "TooManyPolicies": "remove policies that nothing uses",
}
