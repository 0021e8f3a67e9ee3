#!/bin/sh
# Test a haproxy.cfg from standard input, and leave nothing, whatever becomes of who asked for it.
file=$(mktemp /run/certsync-rehearsal.XXXXXX) || exit 1
trap 'rm -f "$file"' EXIT
# A shell that a signal ends does not run what it has for its end.
trap 'exit 1' HUP INT TERM
cat > "$file" && haproxy -c -f "$file"
