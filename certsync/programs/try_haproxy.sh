#!/bin/sh
# Test a haproxy.cfg from standard input, and leave nothing behind even if the caller disappears.
file=$(mktemp /run/certsync-rehearsal.XXXXXX) || exit 1
trap 'rm -f "$file"' EXIT
# A shell that is killed by a signal does not run its EXIT trap.
trap 'exit 1' HUP INT TERM
cat > "$file" && haproxy -c -f "$file"
