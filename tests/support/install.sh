#!/usr/bin/env bash
# Installs what the tests and the demo need and this machine lacks. Says nothing if all is there.
# Arguments name further commands that are needed, each in a package of the same name.
#
# A Dovecot that comes in this way is not left running: both use servers of their own on loopback.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

missing=()
command -v dovecot >/dev/null && command -v doveadm >/dev/null || missing+=(dovecot-imapd)
command -v openssl >/dev/null || missing+=(openssl)
# One test boots a systemd of its own and reads its journal.
[ -x /lib/systemd/systemd ] && command -v journalctl >/dev/null || missing+=(systemd)
command -v ip >/dev/null || missing+=(iproute2)
for command in "$@"; do
    command -v "$command" >/dev/null || missing+=("$command")
done
[ "${#missing[@]}" -eq 0 ] && exit 0

give_up() {
    echo "pecsync's tests and demo need: ${missing[*]}. $1" >&2
    exit 1
}
[ "$(id -u)" -eq 0 ] || give_up "Install them, or run this as root."
command -v apt-get >/dev/null || give_up "There is no apt-get here: install them by hand."

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi

install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
        </dev/null >"$log" 2>&1
}
log=$(mktemp)
echo "Installing ${missing[*]} …"
if ! install && ! { apt-get update -qq </dev/null >>"$log" 2>&1 && install; }; then
    tail -n 5 "$log" >&2
    give_up "apt-get could not install them."
fi
rm -f "$log"
if [ -d /run/systemd/system ]; then
    systemctl disable --now --quiet dovecot.socket dovecot.service 2>/dev/null || true
fi
