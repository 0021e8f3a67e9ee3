#!/bin/sh
# Print what HAProxy says of its members, and behind `# ` what it was configured to do and which
# addresses this balancer has.
echo show stat | socat -t 5 - /run/haproxy/admin.sock
sed 's/^/# configuration /' /etc/haproxy/haproxy.cfg
ip -o address show | awk '{ print "# address", $4 }'
