#!/usr/bin/env bash
# Makes the Debian package OUTPUT_DIRECTORY/pecsync-portal_VERSION_ARCHITECTURE.deb around a built
# BINARY. As systemd/debian/build.sh: no network, and the same package each time.
#
#   build.sh OUTPUT_DIRECTORY BINARY MANUAL_DIRECTORY
set -euo pipefail
umask 022
output=$(realpath -m "$1")
binary=$(realpath "$2")
manual=$(realpath "$3")
cd "$(dirname "$0")/../../.."

version=${DEB_VERSION:-$(sed -nE '/^version = /{s/.*"(.*)"/\1/p;q}' src/portal/Cargo.toml)-1}
architecture=$(dpkg --print-architecture)
maintainer="${DEBFULLNAME:-local administrator} <${DEBEMAIL:-root@localhost}>"
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}"
export SOURCE_DATE_EPOCH

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
doc=$root/usr/share/doc/pecsync-portal
install -D -m 755 "$binary" "$root/usr/bin/pecsync-portal"
strip --strip-debug "$root/usr/bin/pecsync-portal"
for unit in pecsync-portal pecsync-portal-provision; do
    install -D -m 644 systemd/$unit.service "$root/usr/lib/systemd/system/$unit.service"
done
install -D -m 644 systemd/pecsync-portal.sysusers "$root/usr/lib/sysusers.d/pecsync-portal.conf"
install -D -m 644 systemd/pecsync-portal.tmpfiles "$root/usr/lib/tmpfiles.d/pecsync-portal.conf"
install -D -m 644 "$manual/pecsync-portal.8" "$root/usr/share/man/man8/pecsync-portal.8"
gzip -9n "$root/usr/share/man/man8/pecsync-portal.8"
install -D -m 644 docs/portal.md "$doc/portal.md"
sed -i 's|](configuration.md|](../pecsync/configuration.md|' "$doc/portal.md"
{
    cat systemd/debian/copyright
    printf 'Copyright: %s\nLicense: Expat\n' "$(sed -n 's/^Copyright (c) //p' LICENSE)"
    sed '1,/^Copyright/d; s/^$/./; s/^/ /' LICENSE | sed 1d
} >"$doc/copyright"
{
    printf 'pecsync-portal (%s) unstable; urgency=medium\n\n' "$version"
    printf '  * What is new stands in the changelog of pecsync.\n\n -- %s' "$maintainer"
    LC_ALL=C date -u -d "@$SOURCE_DATE_EPOCH" '+  %a, %d %b %Y %T %z'
} | gzip -9n >"$doc/changelog.Debian.gz"

mkdir "$root/DEBIAN"
install -m 755 systemd/debian/portal/{postinst,prerm,postrm} "$root/DEBIAN/"
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
libc=$(objdump -T "$root/usr/bin/pecsync-portal" | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -n 1)
sed -e "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@LIBC@/${libc#GLIBC_}/" \
    -e "s/@SIZE@/$(du -sk --exclude=DEBIAN "$root" | cut -f 1)/" \
    -e "s/@MAINTAINER@/$(sed 's/[&\\/]/\\&/g' <<<"$maintainer")/" \
    systemd/debian/portal/control >"$root/DEBIAN/control"

mkdir -p "$output"
dpkg-deb --root-owner-group -Zxz --build "$root" "$output/pecsync-portal_${version}_$architecture.deb"
