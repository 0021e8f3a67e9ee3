#!/bin/sh
# Print everything that a deploy has to know about a host, in one go. It only reads.
#
# Each line is a word and its values; certsync/operator/hosts/survey.py parses them. Files whose
# text matters are sent as one archive in base64. No content of other files, such as keys, leaves
# the host.
export LC_ALL=C

# Another run's script may still be running, even if its operator's machine is gone.
if [ -e /run/certsync-apply.lock ]; then
    flock -s -w 20 /run/certsync-apply.lock true
fi

# sshd, sudo and cron start nothing for a user whose password has expired (PAM's `account`).
getent shadow root "${SUDO_USER-root}" | awk -F: -v today="$(($(date +%s) / 86400))" '
    $3 == "0" || $3 != "" && $5 != "" && today - $3 > $5 || $8 != "" && today >= $8 {
        print "expired", $1 }' | sort -u

# etckeeper commits all of /etc every day, and so our private keys, unless it is told otherwise.
for kind in git hg bzr; do
    if [ -e "/etc/.$kind" ] && ! grep -Eqs '^/?certsync(/\*?)?$' "/etc/.${kind}ignore"; then
        echo "history $kind"
    fi
done

# shellcheck source=/dev/null
. /etc/os-release
echo "os $ID $VERSION_ID"
echo "arch $(uname -m)"
echo "time $(date +%s)"
df -Pk / /etc /var | awk 'NR > 1 && (NR == 2 || $4 < least) { least = $4 }
    END { print "disk", int(least / 1024) }'
if command -v python3 > /dev/null; then
    python3 -ISc 'import os, sys
print("python %d.%d" % sys.version_info[:2])
print("libc", os.confstr("CS_GNU_LIBC_VERSION").split()[-1])' 2> /dev/null
fi

at='^LISTEN  *[0-9]*  *[0-9]*  *[^ ]*:\([0-9]*\) '
ss -Hltnp | sed -n \
    -e "s/$at"'.*users:(("\([^"]*\)",pid=\([0-9]*\).*/listener \1 \3 \2/p;t' \
    -e "s/$at.*/listener \\1 0 ?/p"
ss -Hltnp | grep -o 'pid=[0-9]*' | cut -d= -f2 | sort -u | head -n 200 | while read -r pid; do
    unit=$(sed -n 's,.*/\([^/]*\.\(service\|scope\)\)$,\1,p' "/proc/$pid/cgroup" | head -n 1)
    echo "process $pid ${unit:--} $(readlink "/proc/$pid/exe")"
done 2> /dev/null
echo "machine $(cat /etc/machine-id /sys/class/dmi/id/product_uuid 2> /dev/null | sha256sum |
    cut -d' ' -f1)"
ip -o address show | awk '{ print "address", $2, $4 }'

# origin FILE PACKAGE: where a configuration file comes from.
origin() {
    read -r first < "$1"
    case $first in *'Written by certsync'*)
        echo ours
        return
        ;;
    esac
    sum=$(md5sum < "$1" | cut -d' ' -f1)
    if dpkg-query -W -f='${Conffiles}\n' "$2" 2> /dev/null | grep -q " $1 $sum"; then
        echo distribution
    else
        echo foreign
    fi
}
if [ -e /etc/haproxy/haproxy.cfg ]; then
    echo "haproxy $(origin /etc/haproxy/haproxy.cfg haproxy)"
fi
if [ -e /etc/keepalived/keepalived.conf ]; then
    echo "keepalived $(origin /etc/keepalived/keepalived.conf keepalived)"
fi
if path=$(command -v nginx); then
    # Without this package it is nginx.org's, another vendor's, or built on the host.
    { [ "$path" = /usr/sbin/nginx ] &&
        dpkg-query -W -f='${Status}\n' nginx-common 2> /dev/null | grep -q ' ok installed'; } ||
        echo "nginx-of-others $path $(dpkg-query -W -f='${Version}' nginx 2> /dev/null)"
    for folder in sites-enabled conf.d; do
        grep -Eqs "^[[:space:]]*include[[:space:]].*$folder/" /etc/nginx/nginx.conf ||
            echo "nginx-without $folder"
    done
fi
for site in /etc/nginx/sites-enabled/* /etc/nginx/conf.d/*.conf; do
    [ -e "$site" ] && echo "nginx $(origin "$(readlink -f "$site")" nginx-common) $site"
done
if [ -f /etc/certsync/issuer ]; then
    echo issuer
    sed -n -e 's/^machine /original /p' -e 's/^address /original-address /p' /etc/certsync/issuer
fi
if [ -f /etc/certsync/machines ]; then sed 's/^/known /' /etc/certsync/machines; fi

if command -v ufw > /dev/null; then
    # `ufw status` checks the same, but takes as long as everything else here.
    state=inactive
    if iptables -n -L ufw-user-input > /dev/null 2>&1; then state=active; fi
    echo "ufw $state"
    rules=$(ufw show added)
    echo "$rules" | sed -n 's/^ufw /rule /p'
    echo "$rules" | sed -n -e 's/^ufw limit .*port \([^ ]*\).*/limit \1/p;t' \
        -e 's/^ufw limit \([^ ]*\)$/limit \1/p'
fi

dpkg-query -W -f='package ${Package} ${Status}\n' ca-certificates cron haproxy keepalived nginx \
    openssh-client openssl python3 python3-venv rsync socat sudo 2> /dev/null
getent passwd certsync certsync-push | sed 's/^/user /'
systemctl show -p Id,ActiveState,UnitFileState,NeedDaemonReload,LimitNOFILE \
    nginx.service haproxy.service keepalived.service certsync-verify.service \
    certsync-tickets.service certsync-renew.timer cron.service | awk -F= '
    function tell() { if ("Id" in is) print "unit", is["Id"], is["ActiveState"] ":" \
        is["UnitFileState"] ":" is["NeedDaemonReload"] ":" is["LimitNOFILE"]; split("", is) }
    $0 == "" { tell(); next }
    { is[$1] = $2 }
    END { tell() }'
awk '/^MemTotal:/ { print "memory", $2 }' /proc/meminfo
echo "files $(prlimit --nofile --output HARD --noheadings | tr -d ' ')"
if command -v nginx > /dev/null; then
    nginx -V 2>&1 | sed -n \
        -e 's,^nginx version: nginx/\([0-9.]*\).*,version nginx \1,p' \
        -e 's,^built with .*OpenSSL \([0-9.]*\).*,version openssl \1,p'
    grep -rEl --exclude='certsync-*' '^[[:space:]]*server_names_hash_bucket_size' \
        /etc/nginx/nginx.conf /etc/nginx/conf.d 2> /dev/null | sed 's/^/bucket /'
fi
if [ -S /run/haproxy/admin.sock ] && command -v socat > /dev/null; then
    echo show servers state | socat -t 5 - /run/haproxy/admin.sock 2> /dev/null | sed 's/^/state /'
fi
if [ -x /opt/certsync/current/bin/certsync ] &&
    /opt/certsync/current/bin/certsync --version > /dev/null 2>&1; then
    echo works
fi

if [ -s /run/certsync-tickets/live/next.key ]; then echo tickets; fi

# For these only metadata: type, mode, owner, group, size.
find /etc/certsync /var/lib/certsync-push /var/lib/certsync-receive /run/certsync-receive \
    /run/certsync-tickets /run/certsync-push /run/certsync-rehearsal /run/certsync-candidate* \
    -maxdepth 3 -printf 'there %y %m %u %g %s %p\n' 2> /dev/null | head -n 20000
find /var/lib/certsync -maxdepth 3 -type d -printf 'there %y %m %u %g %s %p\n' 2> /dev/null |
    head -n 1000

# For these the text, too.
printf 'archive '
tar -c --absolute-names --no-recursion --ignore-failed-read --hard-dereference \
    --format=gnu -f - \
    /etc/certsync/fleet.json /etc/certsync/fleet-origin.json /etc/certsync/left \
    /etc/certsync/machines /etc/certsync/issuer /etc/certsync/*.pem \
    /etc/cron.d/certsync /etc/haproxy/haproxy.cfg /etc/haproxy/certsync-roots.pem \
    /etc/keepalived/keepalived.conf /etc/keepalived/haproxy-serves \
    /etc/nginx/*/certsync-* /etc/nginx/snippets/ssl-*.conf /etc/nginx/sites-enabled/default \
    /etc/ssh/ssh_host_*_key.pub /etc/sudoers.d/certsync-receive \
    /etc/systemd/system/certsync-* /etc/systemd/system/*.service.d \
    /etc/systemd/system/*.service.d/certsync.conf /etc/tmpfiles.d/certsync.conf \
    /opt/certsync /opt/certsync/current /usr/local/bin/certsync \
    /usr/local/lib/certsync /usr/local/lib/certsync/* \
    /var/lib/certsync-push/id_ed25519.pub /var/lib/certsync-push/known_hosts \
    /var/lib/certsync-receive/.ssh/authorized_keys /var/lib/certsync-site \
    /var/lib/certsync-site/lb.html 2> /dev/null | head -c 2000000 | base64 -w 0
echo
exit 0
