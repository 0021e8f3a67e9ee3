#!/bin/sh
# Take one archive from standard input, in base64, and run the `steps` that it brings.
#
# usage: unpack.sh BYTES      how long the archive is: one that was cut off changes nothing
#
# Another run's steps may still be going on after the operator's machine has gone: one at a time.
umask 077
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
exec 9> /run/certsync-apply.lock
if ! flock -w 300 9; then
    echo 'error: another run has been changing this host for five minutes' >&2
    echo 'hint: wait for it, then run the same command again; ps aux shows what it does' >&2
    exit 1
fi
rm -rf /run/certsync-apply.*/
staged=$(mktemp -d /run/certsync-apply.XXXXXXXX) || exit
trap 'rm -rf "$staged"' EXIT
base64 -d > "$staged/archive" 2> /dev/null
if [ "$(stat -c %s "$staged/archive")" != "$1" ]; then
    echo 'error: the upload was incomplete' >&2
    exit 1
fi
tar -x -f "$staged/archive" -C "$staged" --no-same-owner && rm "$staged/archive" &&
    sh "$staged/steps" "$staged"
