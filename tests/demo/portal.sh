#!/usr/bin/env bash
# The demo of the enrollment page: the owner of a mailbox types its password into a page, the daemon
# moves the mailbox, and the same page tells how far it is.
#
# Two real Dovecot servers on loopback, really signed mail, the real page and the real daemon. What
# judges the copy at the end is doveadm, sha256sum and openssl. Exits 0 if all of it holds.
#
#   DEMO_BY_HAND=1           waits for you to enroll the mailbox in a browser on this machine
#   PECSYNC_BIN=FILE PECSYNC_PORTAL_BIN=FILE   run other binaries instead of building these
#   DEMO_KEEP=1              keeps the directory with servers, mail and logs
set -euo pipefail
export LC_ALL=C.UTF-8
PATH=$PATH:/usr/sbin:/sbin

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
. "$here/show.sh"
. "$here/servers.sh"
. "$here/mail.sh"
. "$here/verify.sh"

address=mario.rossi@pec.demo.example
target_user=M1234567
source_password="vecchia-Pa55word"
target_password="nuova-Pa55word"
master_password="padrone-Pa55word"
new_password="Nuov@parola8"
messages=60
dir=
daemon=
page=
workers=()

main() {
    prepare
    SECONDS=0
    start_servers
    fill_account
    start_daemon_and_page
    enroll
    watch_first_copy
    look_again
    cut_over
    verify
}

# --- before the clock runs ----------------------------------------------------------------------

prepare() {
    [ "$(id -u)" -eq 0 ] || { echo "The demo needs root: Dovecot's services change users." >&2; exit 1; }
    "$root/tests/support/install.sh" demo
    pecsync=${PECSYNC_BIN:-} portal=${PECSYNC_PORTAL_BIN:-}
    if [ -z "$pecsync" ] || [ -z "$portal" ]; then
        heading "Building pecsync and pecsync-portal"
        local built
        (cd "$root" && cargo build --release -p pecsync -p pecsync-portal)
        built=$(cd "$root" && cargo metadata --format-version 1 --no-deps |
            sed -E 's/.*"target_directory":"([^"]*)".*/\1/')/release
        pecsync=${pecsync:-$built/pecsync} portal=${portal:-$built/pecsync-portal}
    fi
    dir=$(mktemp -d "${TMPDIR:-/tmp}/pecsync-demo.XXXXXX")
    chmod 755 "$dir"
    mkdir "$dir/mail"
    trap clean_up EXIT
    trap 'exit 130' INT TERM
}

clean_up() {
    local status=$? child
    for child in $page $daemon; do
        if kill "$child" 2>/dev/null; then wait "$child" 2>/dev/null || true; fi
    done
    stop_server old
    stop_server new
    if [ -n "${DEMO_KEEP:-}" ]; then say "Kept: $dir"; else rm -rf "$dir"; fi
    exit "$status"
}

# --- the act ------------------------------------------------------------------------------------

start_daemon_and_page() {
    heading "3. The daemon and the page start; nobody is enrolled yet"
    mkdir -p "$dir/etc/conf.d/portal" "$dir/run" "$dir/state" "$dir/portal/queue"
    page_port=$(free_port)
    printf '%s' "$master_password" >"$dir/etc/service"
    printf '#!/bin/sh\ncat >>%s/told\n' "$dir" >"$dir/hook"
    chmod 700 "$dir/hook"
    printf 'address,target_user,email,phone\n%s,%s,mario@studio.example,\n' "$address" "$target_user" \
        >"$dir/etc/accounts.csv"
    cat >"$dir/etc/pecsync.toml" <<CONF
[daemon]
conf_dir = "conf.d"
state_dir = "$dir/state"
control_socket = "$dir/run/control.sock"

[portal]
listen = "127.0.0.1:$page_port"
public_url = "http://127.0.0.1:$page_port/"
state_dir = "$dir/portal"
new_password_hook = ["$dir/hook"]

[migration.demo]
domains = ["pec.demo.example"]
timezone = "Europe/Rome"
accounts = "accounts.csv"
settle = "0s"

[migration.demo.source]
provider = "aruba"
host = "localhost"
port = $old_port
tls = "implicit"
ca_file = "$dir/ca/ca.pem"

[migration.demo.target]
provider = "legalmail"
host = "localhost"
port = $new_port
tls = "implicit"
ca_file = "$dir/ca/ca.pem"
service_login = { user = "migratore", password_file = "service", style = "master" }

[migration.demo.sync]
sweep_interval = "5s"
in_doubt_wait = "5s"

[migration.demo.portal]
title = "Ordine di prova – InfoCert"
contacts = true
new_password = "free"
two_factor = "https://guide.pec.it/posta-pec/gestione-account/verifica-in-2-passaggi/disattivare-la-verifica-in-due-passaggi.aspx"
webmail = "https://webmail.infocert.it"
help = ["Numero Verde 800-000-000, lun-ven 8-17"]
CONF
    chmod 600 "$dir/etc/pecsync.toml" "$dir/etc/service"
    sed -n '/^\[portal\]/,/^$/p; /^\[migration.demo.portal\]/,$p' "$dir/etc/pecsync.toml" | sed '/^$/d' | indented
    "$pecsync" seal --new-key --config "$dir/etc/pecsync.toml" >"$dir/key" 2>&1 ||
        { indented <"$dir/key"; fail "no key could be made"; }
    "$pecsync" check --config "$dir/etc/pecsync.toml" >"$dir/check" 2>&1 ||
        { indented <"$dir/check"; fail "pecsync check does not like the configuration"; }
    "$pecsync" run --log stderr --config "$dir/etc/pecsync.toml" </dev/null >"$dir/daemon.log" 2>&1 &
    daemon=$!
    "$portal" run --config "$dir/etc/pecsync.toml" </dev/null >"$dir/page.log" 2>&1 &
    page=$!
    wait_until 20 status_answers || fail "the daemon does not answer"
    wait_until 20 page_answers || { indented <"$dir/page.log"; fail "the page does not answer"; }
}

page_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$page_port") 2>/dev/null; }

enroll() {
    heading "4. The owner enrolls the mailbox at http://127.0.0.1:$page_port/?ui=demo"
    if [ -n "${DEMO_BY_HAND:-}" ]; then
        say "Open the link. Mailbox: ${address%@*}   present password: $source_password"
        say "Telephone number: +391234567890   new password: $new_password"
        wait_until 1800 is_enrolled || fail "nobody has enrolled within half an hour"
    else
        visitor "non-è-questa" >"$dir/wrong" || true
        grep -q 'credentials_rejected' "$dir/page.log" || { cat "$dir/wrong"; fail "a wrong password was not refused"; }
        say "A wrong password is refused (Credenziali non valide); nothing is left behind."
        visitor "$source_password" mario@studio.example +391234567890 "$new_password" || fail "the page did not take it"
    fi
    [ "$(find "$dir/etc/conf.d" -name '*.toml' | wc -l)" -eq 1 ] || fail "there is not one enrollment"
    say "What it left in conf.d/portal, for the daemon alone to open:"
    sed -E 's/("v1:[^"]{12})[^"]*/\1…/' "$dir"/etc/conf.d/portal/*.toml | indented
}

# Goes through the page's steps. visitor PASSWORD [EMAIL PHONE NEW_PASSWORD]
visitor() { perl "$here/visitor.pl" "$page_port" demo "${address%@*}" "$@" 2>&1 | indented; }

is_enrolled() { [ -n "$(find "$dir/etc/conf.d/portal" -name '*.toml')" ]; }

watch_first_copy() {
    heading "5. The first copy"
    local tries
    for tries in $(seq 300); do
        [ $((tries % 5)) -ne 1 ] || show_progress
        [ "$(phase)" != following ] || break
        alive
        sleep 0.2
    done
    [ "$(phase)" = following ] || fail "the first copy did not end within a minute"
    "$pecsync" status "$address" --config "$dir/etc/pecsync.toml" 2>&1 | head -n 8 | indented
}

look_again() {
    heading "6. The owner looks again, and the new provider is told the new password"
    visitor "$source_password" || fail "the page does not show the state"
    "$portal" provision --once --config "$dir/etc/pecsync.toml" >"$dir/provision.log" 2>&1 ||
        { indented <"$dir/provision.log"; fail "the hook was not told"; }
    say "The hook was told, on standard input:"
    sed -E 's/("new_password":"..)[^"]*/\1…/' "$dir/told" | indented
}

cut_over() {
    heading "7. The cutover"
    delivered=1
    deliver INBOX 9001 posta-certificata "All'ultimo minuto"
    say "one more message comes in …"
    "$pecsync" cutover --migration demo --now --config "$dir/etc/pecsync.toml" 2>&1 | indented
    wait_until 60 is_completed || fail "the account has not completed: $(phase)"
    visitor "$source_password" || fail "the page does not show the state"
}

is_completed() { [ "$(phase)" = completed ]; }

verify() {
    heading "8. Is it exact? Asking doveadm, sha256sum and openssl, not pecsync"
    take_all source old "$address"
    local there wrong=0
    there=$(wc -l <"$dir/source.index")
    check "each of $there messages is at the new server exactly once: folder, SHA-256, date, flags" verify_copy
    check "all folders are there, the empty one too" verify_folders
    signed=$(verify_signatures source)
    check "all $signed signatures still verify at the new server" signatures_hold
    check "the new provider was told the new password, once, and it waits nowhere" new_password_is_told
    check "no password stands in a log, an enrollment or the queue" secrets_are_kept
    [ "$wrong" -eq 0 ] || { show_differences; fail "$wrong of 5 checks do not hold"; }
    printf '\n%sVERDICT: ENROLLED AND MOVED%s – its owner typed a password into a page, and %s messages are at the new provider, none lost, none twice, none altered (%s s).\n' \
        "$green$bold" "$plain" "$there" "$SECONDS"
}

# --- the judge's questions ----------------------------------------------------------------------

signatures_hold() { [ "$signed" -gt "$messages" ] && [ "$(verify_signatures copy)" -eq "$signed" ]; }

new_password_is_told() {
    [ "$(grep -cF "\"address\":\"$address\"" "$dir/told")" -eq 1 ] && [ -z "$(ls -A "$dir/portal/queue")" ]
}

secrets_are_kept() {
    ! grep -rqF -e "$source_password" -e "$new_password" -e "$master_password" \
        "$dir/daemon.log" "$dir/page.log" "$dir/provision.log" "$dir/etc/conf.d" "$dir/portal"
}

main
