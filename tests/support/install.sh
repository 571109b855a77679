#!/usr/bin/env bash
# Installs what the tests and the demo need and this machine lacks. Says nothing if all is there.
#
#   install.sh              for the tests
#   install.sh demo         for the demo, which needs no server but Dovecot
#   install.sh COMMAND...   the same, and commands that stand in packages of the same name
#
# A Dovecot that comes in this way is not left running: both use servers of their own on loopback.
# Cyrus and Courier are not installed: Debian's IMAP servers exclude each other. Their packages,
# and what those need and this machine lacks, are unpacked below /var/cache/pecsync-tests, where
# nothing of the machine looks (tests/support/box.sh makes them appear to a test's server). A small
# Debian 13 lies there, too, for tests/systemd_boot.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
unpacked=/var/cache/pecsync-tests

missing=()
command -v dovecot >/dev/null && command -v doveadm >/dev/null || missing+=(dovecot-imapd)
command -v openssl >/dev/null || missing+=(openssl)
# The visitor of one demo hashes.
perl -MDigest::SHA -e 1 2>/dev/null || missing+=(perl)
# One test boots a systemd of its own and reads its journal.
[ -x /lib/systemd/systemd ] && command -v journalctl >/dev/null || missing+=(systemd)
[ -d /usr/share/ca-certificates ] || missing+=(ca-certificates)
command -v ip >/dev/null || missing+=(iproute2)
apart=()
case ${1:-} in
demo) ;;
'')
    [ -d $unpacked/cyrus ] || apart+=(cyrus)
    [ -d $unpacked/courier ] || apart+=(courier)
    # The enrollment page is tried in a browser.
    command -v chromium >/dev/null || missing+=(chromium)
    command -v chromedriver >/dev/null || missing+=(chromium-driver)
    # For promtool, without a Prometheus that starts.
    [ -d $unpacked/prometheus ] || apart+=(prometheus)
    if [ ! -d $unpacked/trixie ]; then
        apart+=(trixie)
        command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
    fi
    # What reads manual pages and completions.
    for reader in mandoc zsh fish; do
        command -v $reader >/dev/null || missing+=("$reader")
    done
    ;;
*)
    for command in "$@"; do
        command -v "$command" >/dev/null || missing+=("$command")
    done
    ;;
esac
[ $((${#missing[@]} + ${#apart[@]})) -eq 0 ] && exit 0

give_up() {
    echo "pecsync's tests and demo need: ${missing[*]} ${apart[*]}. $1" >&2
    exit 1
}
[ "$(id -u)" -eq 0 ] || give_up "Install them, or run this as root."
command -v apt-get >/dev/null || give_up "There is no apt-get here: install them by hand."

work=$(mktemp -d)
policy=/usr/sbin/policy-rc.d
ours=
trap 'rm -rf "$work" ${ours:+"$policy"}' EXIT

# Runs a function; if it fails, once more with fresh package lists.
with_lists() {
    "$@" >"$work/log" 2>&1 && return
    apt-get update -qq </dev/null >>"$work/log" 2>&1 && "$@" >>"$work/log" 2>&1 && return
    tail -n 5 "$work/log" >&2
    give_up "apt-get could not get them."
}

install_missing() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
        </dev/null
}

# What apt is to know of this machine: no IMAP server that would be in the way, and a mail server,
# lest it fetch one.
know_no_imap_server() {
    awk -v RS= -v ORS='\n\n' '!/\nProvides:[^\n]*imap-server/' /var/lib/dpkg/status
    cat <<END
Package: pecsync-tests-no-mail-server
Status: install ok installed
Maintainer: pecsync <root@localhost>
Architecture: all
Version: 1
Provides: mail-transport-agent
Description: nothing

END
}

# NAME PACKAGE...: gets packages and unpacks them below $unpacked/NAME.
unpack() {
    local name=$1 package part
    shift
    mkdir -p "$work/$name/archives/partial" "$work/$name/tree"
    know_no_imap_server >"$work/$name/status"
    apt-get install -y -qq --no-install-recommends --download-only -o Debug::NoLocking=1 \
        -o APT::Sandbox::User=root -o Dir::State::status="$work/$name/status" \
        -o Dir::Cache::archives="$work/$name/archives" "$@" </dev/null || return
    for package in "$work/$name/archives"/*.deb; do
        dpkg-deb -x "$package" "$work/$name/tree" || return
    done
    # /lib is a link to /usr/lib on the machine, and has to stay one where the tree covers it.
    for part in bin sbin lib lib64; do
        [ -d "$work/$name/tree/$part" ] || continue
        mkdir -p "$work/$name/tree/usr/$part"
        cp -a "$work/$name/tree/$part/." "$work/$name/tree/usr/$part/" || return
        rm -r "${work:?}/$name/tree/$part"
    done
    rm -rf "$work/$name/tree/usr"/{include,share/{doc,locale,man}}
    chmod 755 "$work/$name/tree"
    mkdir -p $unpacked
    cp -a "$work/$name/tree" "$unpacked/.$name.$$" || return
    # Another run may have been quicker.
    mv -T "$unpacked/.$name.$$" "$unpacked/$name" || rm -r "$unpacked/.$name.$$"
}

# A Debian 13, on which the package built on this machine has to work.
debian_13() {
    local root=$unpacked/.trixie.$$
    mkdir -p $unpacked
    mmdebstrap --quiet --variant=minbase --dpkgopt=force-unsafe-io \
        --include=systemd-sysv,ca-certificates,dovecot-imapd trixie "$root" \
        http://deb.debian.org/debian </dev/null ||
        { rm -rf "$root"; return 1; }
    # Another run may have been quicker.
    mv -T "$root" "$unpacked/trixie" || rm -r "$root"
}

echo "Installing ${missing[*]} ${apart[*]} …"
if [ "${#missing[@]}" -gt 0 ]; then
    if [ ! -e "$policy" ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    with_lists install_missing
    if [ -d /run/systemd/system ]; then
        systemctl disable --now --quiet dovecot.socket dovecot.service 2>/dev/null || true
    fi
fi
for name in "${apart[@]}"; do
    case $name in
        cyrus) with_lists unpack cyrus cyrus-imapd sasl2-bin ;;
        courier) with_lists unpack courier courier-imap courier-authlib-userdb ;;
        prometheus) with_lists unpack prometheus prometheus ;;
        trixie) with_lists debian_13 ;;
    esac
done
