#!/bin/bash
# Runs a server from Debian packages that are not installed here: below an overlay of this
# machine's root file system in which the unpacked packages lie at their places. What is written
# there, but for DIR, is gone when it ends. Whoever starts it ends it with SIGKILL.
#
#   box.sh TREE DIR COMMAND...
set -euo pipefail

if [ "$1" != inside ]; then
    exec unshare --mount --pid --fork --kill-child bash "$0" inside "$@"
fi
tree=$2 dir=$3
shift 3
root=$dir/root
mkdir -p "$dir/layers" "$root"
mount -t tmpfs -o mode=755 tmpfs "$dir/layers"
mkdir "$dir/layers/work"
# No layer of its own: it lies in the root, and layers may not overlap.
cp -a "$tree" "$dir/layers/upper"
mount -t overlay -o "lowerdir=/,upperdir=$dir/layers/upper,workdir=$dir/layers/work" \
    overlay "$root"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mkdir -p "$root$dir"
mount --bind "$dir" "$root$dir"
# This shell stays the first process: it dies with unshare, and everything else with it. A server
# that changes its user would not.
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" "$@"
