# shellcheck shell=sh
# What a deploy's steps are made of. `$staged` is the folder with everything that was uploaded,
# `$here` the part of it for this step.
: "${staged:?}" "${here=$staged}"

BACKUPS=/var/backups/certsync
NGINX_UNFINISHED=/run/certsync-candidate
HAPROXY_UNFINISHED=/run/certsync-candidate.haproxy
KEEPALIVED_UNFINISHED=/run/certsync-candidate.keepalived

# place NAME PATH MODE OWNER GROUP: install a file, whole or not at all.
place() {
    install -m "$3" -o "$4" -g "$5" -- "$here/$1" "$2.certsync-new" &&
        mv -T -- "$2.certsync-new" "$2"
}

# link TARGET PATH: make a link, whatever was there.
link() {
    ln -sfn -- "$1" "$2.certsync-new" && mv -T -- "$2.certsync-new" "$2"
}

# sudo_rule NAME PATH: a broken one locks everybody out, so visudo checks it first.
sudo_rule() {
    chmod 440 "$here/$1" && visudo -cqf "$here/$1" && place "$1" "$2" 440 root root
}

# user NAME HOME SHELL: ensure a system user, with a group of the same name.
user() {
    if getent passwd "$1" > /dev/null; then
        usermod -d "$2" -s "$3" "$1"
    elif getent group "$1" > /dev/null; then
        useradd --system --no-create-home -d "$2" -s "$3" -g "$1" "$1"
    else
        useradd --system --no-create-home -d "$2" -s "$3" --user-group "$1"
    fi
}

# packages NAME...: install Debian packages. An interrupted dpkg run is completed first.
packages() {
    if command -v cloud-init > /dev/null; then timeout 300 cloud-init status --wait || :; fi
    set -- -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold \
        install --no-install-recommends "$@"
    if [ -n "$(ls /var/lib/dpkg/updates)" ]; then dpkg --force-confold --configure -a || :; fi
    # If one source is broken, the others' lists or the previous ones will do.
    if why=$(package_lists); then why=; fi
    apt-get "$@" && return
    if [ -n "$why" ]; then printf 'error: apt-get update failed: %s\n' "$why" >&2; fi
    return 1
}

# package_lists: read the package lists anew; if that fails, print why. A fresh host's apt-daily may
# hold their lock, which DPkg::Lock::Timeout does not wait for.
package_lists() {
    for _ in $(seq 60); do
        output=$(apt-get -q -y -o DPkg::Lock::Timeout=300 update 2>&1) && return
        case $output in *' lock /var/lib/apt/lists/lock'*) sleep 5 ;; *) break ;; esac
    done
    echo "$output" | sed -n 's/^E: //p' | head -n 1
    return 1
}

# running UNIT: make a service reload its files and run, now and after a reboot. It is reset first:
# systemd does not start a unit that has hit its start limit.
running() {
    systemctl enable -q "$1" || return
    systemctl reset-failed "$1" 2> /dev/null || :
    systemctl reload-or-restart "$1" || {
        why=$(journalctl -q --no-pager -o cat -n 8 -u "$1" | paste -sd ';')
        printf 'error: %s cannot be started: %s\n' "$1" "$why" >&2
        return 1
    }
}

# configure_nginx CHANGES: apply the changes to a copy of /etc/nginx, mounted over the real one in a
# mount namespace of its own, and if nginx loads that, to the real one. The mark makes the next run
# catch up on an interrupted reload.
configure_nginx() {
    # shellcheck disable=SC2016  # expanded in there
    unshare --mount sh -c '
        staged=$1 here=$2
        mkdir "$staged/nginx" && cp -a /etc/nginx/. "$staged/nginx" || exit
        # Through a link to a folder elsewhere, the test would change the real files.
        for each in "$staged"/nginx/*; do
            real=$(readlink -f "/etc/nginx/${each##*/}")
            if [ -L "$each" ] && [ -d "$real" ]; then rm "$each" && cp -a "$real" "$each"; fi || exit
        done
        mount --bind "$staged/nginx" /etc/nginx &&
            python3 -IS "$here/change.py" "$here" "$here/$3" && nginx -t -q
        ' try "$staged" "$here" "$1" || return
    touch "$NGINX_UNFINISHED" &&
        python3 -IS "$here/change.py" "$here" "$here/$1" &&
        nginx -t -q && running nginx && rm -rf "$NGINX_UNFINISHED"
}

# configure_haproxy NAME [wait]: install this haproxy.cfg if HAProxy loads it; the reload drops no
# connection. wait: until its members have passed their checks.
configure_haproxy() {
    candidate=/etc/haproxy/.certsync-candidate.cfg
    install -m 644 -o root -g root -- "$here/$1" "$candidate" || return
    if ! haproxy -c -q -f "$candidate"; then
        rm -f "$candidate"
        return 1
    fi
    haproxy_has_learnt
    touch "$HAPROXY_UNFINISHED" && mv -T "$candidate" /etc/haproxy/haproxy.cfg &&
        running haproxy && rm -f "$HAPROXY_UNFINISHED" || return
    if [ "${2-}" = wait ]; then members_are_up; fi
}

# haproxy_has_learnt: wait until HAProxy may be reloaded. A new process takes up to five seconds to
# learn the stick tables from the old one; reloaded before that, it passes nothing on, and clients
# lose the backend that they stick to.
haproxy_has_learnt() {
    grep -qs '^peers ' /etc/haproxy/haproxy.cfg || return 0
    for _ in $(seq 60); do
        up=$(echo show info | socat -t 5 - /run/haproxy/admin.sock 2> /dev/null |
            sed -n 's/^Uptime_sec: \([0-9]*\)$/\1/p')
        if [ "${up:-6}" -ge 6 ]; then return 0; fi
        sleep 0.2
    done
    return 0
}

# members_are_up: wait for a member just admitted, which has to pass two checks. `certsync status`
# reports one that stays down.
members_are_up() {
    for _ in $(seq 50); do
        sleep 0.2
        # shellcheck disable=SC2016  # awk's own
        echo show stat | socat -t 5 - /run/haproxy/admin.sock | awk -F, '
            /^(tls[^,]*|challenge),/ && $2 != "BACKEND" && $18 ~ /^DOWN/ { down = 1 }
            END { exit down }' && break
    done
    return 0
}

# configure_keepalived NAME ADDRESS...: install this keepalived.conf if keepalived accepts it, and
# wait until some balancer has the addresses: the CA's challenges come through them.
#
# Debian 12's keepalived ends every test of a file that names a script with a SIGTERM to its whole
# process group, whether it found mistakes or not. The log has what it found.
configure_keepalived() {
    candidate=/etc/keepalived/certsync-candidate.conf
    log=$staged/keepalived.log
    install -m 644 -o root -g root -- "$here/$1" "$candidate" || return
    setsid --wait keepalived --config-test="$log" --use-file "$candidate"
    case $? in
        0) good=yes ;;
        143) if [ -s "$log" ]; then good=no; else good=yes; fi ;;
        *) good=no ;;
    esac
    if [ "$good" = no ]; then
        cat "$log" >&2
        rm -f "$candidate"
        return 1
    fi
    touch "$KEEPALIVED_UNFINISHED" && mv -T "$candidate" /etc/keepalived/keepalived.conf &&
        running keepalived && rm -f "$KEEPALIVED_UNFINISHED" || return
    shift
    for _ in $(seq 50); do
        if all_answer "$@"; then return 0; fi
        sleep 0.2
    done
    echo 'error: no balancer has taken the virtual addresses within ten seconds' >&2
    return 1
}

# all_answer ADDRESS...: does something listen on port 80 of each of them?
all_answer() {
    for address in "$@"; do
        socat -u OPEN:/dev/null "TCP:$address:80,connect-timeout=1" 2> /dev/null || return
    done
}

# put_aside PATH...: keep a dated copy of each file that has none yet. It may be interrupted
# anywhere: a copy gets its date once it is complete, and is not made again.
#
# From / because `cp --parents` of coreutils 9.1 (Debian 12) creates the folders of an absolute path
# only there.
put_aside() {
    cd / || return
    install -d -m 700 "$BACKUPS" || return
    rm -rf "$BACKUPS/.unfinished"
    for path in "$@"; do
        is_kept "$path" && continue
        if ! { mkdir -p "$BACKUPS/.unfinished" &&
            cp -aL --parents "$path" "$BACKUPS/.unfinished/"; }; then
            rm -rf "$BACKUPS/.unfinished"
            return 1
        fi
    done
    if [ -e "$BACKUPS/.unfinished" ]; then
        dated=$BACKUPS/$(date +%Y%m%d-%H%M%S) more=
        while [ -e "$dated$more" ]; do more=$((${more:-0} - 1)); done
        mv -T "$BACKUPS/.unfinished" "$dated$more"
    fi
}

is_kept() {
    for kept in "$BACKUPS"/*; do
        if cmp -s "$kept$1" "$1"; then return 0; fi
    done
    return 1
}

# last_connections SECONDS PORT: wait until the last connection ends, but no longer than SECONDS.
# Counting here covers every balancer and all its processes, including those from before a reload.
last_connections() {
    end=$(($(date +%s) + $1))
    while [ "$(date +%s)" -lt "$end" ]; do
        ss -Htn state established "( sport = :443 or sport = :80 or sport = :$2 )" |
            grep -v -e ' 127\.' -e ' \[::1\]' -e ' \[::ffff:127\.' > /dev/null || break
        sleep 0.2
    done
    return 0
}

# no_site: stop nginx from serving our sites. The files that show it is unfinished are removed last.
no_site() {
    cd /etc/nginx || return
    rm -f sites-enabled/certsync-* snippets/certsync-challenge.conf conf.d/certsync-*.conf
    for lineage in /etc/certsync/live/*; do rm -f "snippets/ssl-${lineage##*/}.conf"; done
    if [ -n "$(find sites-enabled conf.d -mindepth 1 \( -path 'sites-enabled/*' -o -name '*.conf' \))" ]; then
        nginx -t -q && systemctl reload nginx || return
    else
        # A graceful stop: requests in progress are answered.
        if systemctl is-active -q nginx; then
            nginx -s quit
            for _ in $(seq 150); do
                systemctl is-active -q nginx || break
                sleep 0.2
            done
        fi
        systemctl disable -q --now nginx || return
    fi
    rm -f sites-available/certsync-*
}

# placeholder_live LINEAGE: replace a lineage's key and certificate with the placeholder.
placeholder_live() {
    link "../archive/$1/0000" "/etc/certsync/live/$1" || return
    if systemctl is-active -q nginx; then nginx -s reload || return; fi
    find "/etc/certsync/archive/$1" -mindepth 1 -maxdepth 1 ! -name 0000 -exec rm -rf {} +
}

# no_tickets UNIT KEYS: let nginx make its own session ticket keys. The shared ones are removed
# last: nginx needs them to start until it has loaded a configuration without them.
no_tickets() {
    rm -f /etc/nginx/conf.d/certsync-tickets.conf
    if systemctl is-active -q nginx; then nginx -s reload || return; fi
    systemctl disable -q "$1" 2> /dev/null || :
    rm -f "/etc/systemd/system/$1"
    systemctl daemon-reload && rm -rf "$2"
}

# no_keepalived DROP_IN SCRIPT CONFIGURATION: remove our keepalived. The file that marks it as ours
# goes last, so that the next run finishes an interrupted one.
no_keepalived() {
    systemctl disable -q --now keepalived || return
    rm -f "$2" "$1/certsync.conf"
    rmdir "$1" 2> /dev/null || :
    systemctl daemon-reload && rm -f "$3" "$KEEPALIVED_UNFINISHED"
}

# new_release RELEASE IMPORTS: install certsync from the uploaded wheels, and switch to it once it
# starts and imports what unattended runs need. The previous release is kept.
new_release() {
    cd /opt/certsync || return
    rm -rf "$1" && python3 -m venv "$1" || return
    "$1/bin/pip" install -q --no-index --disable-pip-version-check --no-compile \
        "$here"/*.whl &&
        "$1/bin/certsync" --version &&
        "$1/bin/python" -m compileall -q "$1/lib" &&
        "$1/bin/python" -c "$2" || return
    link "$1" /opt/certsync/current
    # shellcheck disable=SC2010,SC2012  # names of our own, newest first
    ls -1t | grep -v -x -e current -e "$1" | tail -n +2 | xargs -r rm -rf
}
