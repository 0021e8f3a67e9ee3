#!/bin/sh
# Print the public files of certbot's lineages and of ours, one per line: a path or a word, then the
# content in base64. It reads no key.
#
# usage: certbot_files.sh HOME LINEAGE
cd "$1" 2>/dev/null && for file in live/*/fullchain.pem "live/$2/cert.pem" "live/$2/chain.pem" \
    "renewal/$2.conf"; do
    [ -e "$file" ] && printf '%s ' "$file" && base64 -w 0 "$file" && echo
done
for file in "/etc/certsync/archive/$2"/*/manifest.json; do
    [ -e "$file" ] && printf 'manifest ' && base64 -w 0 "$file" && echo
done
exit 0
