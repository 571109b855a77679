#!/bin/bash
# A machine with systemd as PID 1, in namespaces, on an overlay of this one's root file system or of
# that at $PECSYNC_BOX_BELOW: what is written there is gone when it halts. Needs root, systemd and
# cgroup v2; starts in a second or two.
#
#   box.sh boot DIR | run DIR COMMAND... | halt DIR
set -euo pipefail

action=$1
dir=$(readlink -f "$2")
shift 2

# In the new namespaces, before systemd: builds the root and becomes PID 1.
inside() {
    local root=$dir/root
    mount --make-rprivate /
    mkdir -p "$dir/layers" "$root"
    mount -t tmpfs -o mode=755 tmpfs "$dir/layers"
    mkdir "$dir/layers/upper" "$dir/layers/work"
    mount -t overlay -o "lowerdir=${PECSYNC_BOX_BELOW:-/},upperdir=$dir/layers/upper,workdir=$dir/layers/work" \
        overlay "$root"
    mount -t tmpfs -o mode=755 tmpfs "$root/run"
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
    mount -t proc proc "$root/proc"
    # What would reach the machine itself is read-only.
    for part in sys sysrq-trigger; do
        [ -e "$root/proc/$part" ] || continue
        mount --bind "$root/proc/$part" "$root/proc/$part"
        mount -o remount,bind,ro "$root/proc/$part"
    done
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=755 tmpfs "$root/dev"
    for node in null zero full random urandom tty; do
        touch "$root/dev/$node"
        mount --bind "/dev/$node" "$root/dev/$node"
    done
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    mount -t tmpfs tmpfs "$root/dev/shm"
    # Nothing of the host's own services, identity or journal.
    rm -rf "$root"/etc/systemd/system/*.wants "$root"/var/log/journal
    mkdir -p "$root/var/log/journal"
    : >"$root/etc/machine-id"
    : >"$root/etc/fstab"
    # Lest packages start nothing.
    rm -f "$root/usr/sbin/policy-rc.d"
    ip link set lo up
    # Not chroot: PrivateUsers= cannot make a user namespace in one.
    cd "$root"
    pivot_root . .
    umount -l .
    cd /
    # LoadCredential= and PrivateMounts= propagate mounts.
    mount --make-rshared /
    exec env -i container=pecsync-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        setpriv --bounding-set=-sys_module,-sys_rawio,-sys_time,-mknod \
        /lib/systemd/systemd --show-status=0
}

# Runs a command in the machine.
run() {
    exec nsenter -t "$(cat "$dir/leader")" -m -u -i -n -p -C -r -W / -- \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"
}

boot() {
    local groups=/sys/fs/cgroup
    [ -f $groups/cgroup.procs ] || groups=/sys/fs/cgroup/unified
    local group=$groups/pecsync-box.$$ state leader
    mkdir "$group"
    echo "$group" >"$dir/group"
    (
        echo "$BASHPID" >"$group/cgroup.procs"
        exec unshare --pid --mount --uts --ipc --cgroup --net --fork --kill-child \
            bash "$0" inside "$dir"
    ) >"$dir/console" 2>&1 </dev/null &
    echo $! >"$dir/outer"
    for _ in $(seq 100); do
        leader=$(pgrep -P "$(cat "$dir/outer")" || true)
        [ -n "$leader" ] && [ "$(cat "/proc/$leader/comm")" = systemd ] && break
        sleep 0.1
    done
    echo "$leader" >"$dir/leader"
    for _ in $(seq 300); do
        kill -0 "$(cat "$dir/outer")" 2>/dev/null || break
        state=$( (run systemctl is-system-running) 2>/dev/null || true)
        case $state in running | degraded) exit 0 ;; esac
        sleep 0.1
    done
    cat "$dir/console" >&2
    echo "it does not come up: ${state:-no answer}" >&2
    exit 1
}

halt() {
    (run systemctl poweroff) || true
    for _ in $(seq 100); do
        kill -0 "$(cat "$dir/outer")" 2>/dev/null || break
        sleep 0.1
    done
    kill -9 "$(cat "$dir/outer")" 2>/dev/null || true
    find "$(cat "$dir/group")" -depth -type d -exec rmdir {} \; 2>/dev/null || true
}

case $action in
boot) boot ;;
run) run "$@" ;;
halt) halt ;;
inside) inside ;;
esac
