#!/bin/sh
# On a replica: print what its sshd would do with the receiving user's connections. It only reads.
#
# usage: admits.sh USER ISSUER-ADDRESS OWN-ADDRESS PORT
export LC_ALL=C

timeout 10 /usr/sbin/sshd -T -C "user=$1,host=$2,addr=$2,laddr=$3,lport=$4" 2> /dev/null |
    head -c 100000
echo "groups $(id -Gn "$1" 2> /dev/null || echo "$1")"
