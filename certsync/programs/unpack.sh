#!/bin/sh
# Read an archive from standard input, in base64, and run the `steps` in it.
#
# usage: unpack.sh BYTES      the archive's length: a truncated one changes nothing
#
# Another run's steps may still be running, even if its operator's machine is gone: one at a time.
umask 077
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
exec 9> /run/certsync-apply.lock
if ! flock -w 300 9; then
    echo 'error: another run has been changing this host for five minutes' >&2
    echo 'hint: wait until it ends (ps aux shows what it runs), then run this command again' >&2
    exit 1
fi
rm -rf /run/certsync-apply.*/
# What a killed run left between writing a new file and renaming it.
find /etc/certsync /etc/cron.d /etc/haproxy /etc/keepalived /etc/nginx /etc/sudoers.d \
    /etc/systemd/system /etc/tmpfiles.d /opt/certsync /usr/local/bin /usr/local/lib/certsync \
    /var/lib/certsync-push /var/lib/certsync-receive /var/lib/certsync-site \
    -maxdepth 2 -name '*.certsync-new' -delete 2> /dev/null
staged=$(mktemp -d /run/certsync-apply.XXXXXXXX) || exit
trap 'rm -rf "$staged"' EXIT
base64 -d > "$staged/archive" 2> /dev/null
if [ "$(stat -c %s "$staged/archive")" != "$1" ]; then
    echo 'error: the upload was incomplete' >&2
    exit 1
fi
tar -x -f "$staged/archive" -C "$staged" --no-same-owner && rm "$staged/archive" &&
    sh "$staged/steps" "$staged"
