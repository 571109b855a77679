#!/usr/bin/env bash
# Makes the Debian package OUTPUT of what `make install` installs. Besides what builds pecsync it
# needs dpkg-deb, which every Debian has, and no network. Variables go on to make: BINARY=, MANUAL=.
#
#   build.sh OUTPUT_DIRECTORY [VARIABLE=VALUE]...
#
# Who answers for the package is who builds it: DEBFULLNAME and DEBEMAIL, as Debian's own tools have
# them. Without them it is a package for one's own machines, whose administrator that is.
#
# What was built makes the same package each time, octet by octet: files bear the date of the commit.
set -euo pipefail
cd "$(dirname "$0")/../.."
umask 022
output=$1
shift

version=${DEB_VERSION:-$(sed -nE '/^version = /{s/.*"(.*)"/\1/p;q}' Cargo.toml)-1}
architecture=$(dpkg --print-architecture)
maintainer="${DEBFULLNAME:-local administrator} <${DEBEMAIL:-root@localhost}>"
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}"
export SOURCE_DATE_EPOCH

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
make --no-print-directory install DESTDIR="$root" PREFIX=/usr SYSCONFDIR=/etc \
    ZSH=share/zsh/vendor-completions "$@"

# Names of functions stay, for backtraces.
strip --strip-debug "$root/usr/bin/pecsync"
doc=$root/usr/share/doc/pecsync
{
    cat systemd/debian/copyright
    printf 'Copyright: %s\nLicense: Expat\n' "$(sed -n 's/^Copyright (c) //p' LICENSE)"
    sed '1,/^Copyright/d; s/^$/./; s/^/ /' LICENSE | sed 1d
} >"$doc/copyright"
rm "$doc/LICENSE"
mv "$doc/CHANGELOG.md" "$doc/changelog"
{
    printf 'pecsync (%s) unstable; urgency=medium\n\n  * What is new stands in changelog.gz.\n\n' "$version"
    printf ' -- %s' "$maintainer"
    LC_ALL=C date -u -d "@$SOURCE_DATE_EPOCH" '+  %a, %d %b %Y %T %z'
} >"$doc/changelog.Debian"
find "$root/usr/share/man" "$doc"/changelog* -type f -exec gzip -9n {} +

mkdir "$root/DEBIAN"
cp systemd/debian/conffiles "$root/DEBIAN/"
install -m 755 systemd/debian/{postinst,prerm,postrm} "$root/DEBIAN/"
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
libc=$(objdump -T "$root/usr/bin/pecsync" | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -n 1)
sed -e "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@LIBC@/${libc#GLIBC_}/" \
    -e "s/@SIZE@/$(du -sk --exclude=DEBIAN "$root" | cut -f 1)/" \
    -e "s/@MAINTAINER@/$(sed 's/[&\\/]/\\&/g' <<<"$maintainer")/" \
    systemd/debian/control >"$root/DEBIAN/control"

mkdir -p "$output"
package=$output/pecsync_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package"
