#!/bin/sh
# Print the live generation's number, `held` and its leaf, `served` and the leaf that nginx serves
# at an address.
#
# usage: held_and_served.sh LINEAGE ADDRESS
live=/etc/certsync/live/$1
basename "$(readlink "$live")"
echo held
openssl x509 -in "$live/cert.pem"
echo served
timeout 10 openssl s_client -connect "$2:443" -servername "$1" < /dev/null | openssl x509
