#!/bin/sh
# Print HAProxy's statistics and, after `# `, its configuration and this balancer's addresses.
echo show stat | socat -t 5 - /run/haproxy/admin.sock
sed 's/^/# configuration /' /etc/haproxy/haproxy.cfg
ip -o address show | awk '{ print "# address", $4 }'
