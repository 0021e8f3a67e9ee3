#!/bin/sh
# On the issuer: print how it reaches the replicas, and what the names resolve to there. It only
# reads.
#
# usage: reaches.sh [ADDRESS PORT]... -- NAME...
export LC_ALL=C

while [ "$1" != -- ]; do
    {
        from=$(ip -o route get "$1" 2> /dev/null | sed -n 's/.* src \([^ ]*\).*/\1/p')
        # shellcheck disable=SC2016  # expanded in there
        said=$(timeout 5 bash -c 'exec 3<> "/dev/tcp/$0/$1" && head -c 4 <&3' "$1" "$2" 2>&1)
        case $said in
            SSH-*) what=open ;;
            *'Connection refused'*) what=refused ;;
            *'No route'* | *unreachable*) what=unroutable ;;
            *) what=silent ;;
        esac
        echo "to $1 $what $from"
    } &
    shift 2
done
shift

for name in "$@"; do
    {
        found=$(timeout 15 getent ahosts "$name" | awk '{ print $1 }' | sort -u | head -n 50 |
            tr '\n' ' ')
        echo "name $name $found"
    } &
done
wait
