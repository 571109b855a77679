#!/usr/bin/env bash
# The demo: one certified mailbox moves from an old provider to a new one while you watch.
#
# Two real Dovecot servers on loopback, really signed mail, the real daemon. What judges the copy
# at the end is doveadm, sha256sum and openssl, not pecsync. Exits 0 if the copy is exact.
#
#   PECSYNC_BIN=FILE   runs another binary instead of building this one
#   DEMO_CUTOVER=30    seconds from the daemon's start to the cutover (45)
#   DEMO_KEEP=1        keeps the directory with servers, mail and logs
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
messages=300
cutover_after=${DEMO_CUTOVER:-45}
dir=
daemon=
reader=
workers=()

main() {
    prepare
    SECONDS=0
    start_servers
    fill_account
    start_daemon
    enroll
    watch_first_copy
    watch_following
    watch_cutover
    verify
}

# --- before the clock runs ----------------------------------------------------------------------

prepare() {
    [ "$(id -u)" -eq 0 ] || { echo "The demo needs root: Dovecot's services change users." >&2; exit 1; }
    "$root/tests/support/install.sh" demo
    pecsync=${PECSYNC_BIN:-}
    if [ -z "$pecsync" ]; then
        heading "Building pecsync"
        (cd "$root" && cargo build --release --bin pecsync)
        pecsync=$(cd "$root" && cargo metadata --format-version 1 --no-deps |
            sed -E 's/.*"target_directory":"([^"]*)".*/\1/')/release/pecsync
    fi
    dir=$(mktemp -d "${TMPDIR:-/tmp}/pecsync-demo.XXXXXX")
    chmod 755 "$dir"
    mkdir "$dir/mail"
    trap clean_up EXIT
    trap 'exit 130' INT TERM
}

clean_up() {
    local status=$?
    if [ -n "$daemon" ] && kill "$daemon" 2>/dev/null; then wait "$daemon" 2>/dev/null || true; fi
    stop_server old
    stop_server new
    if [ -n "${DEMO_KEEP:-}" ]; then say "Kept: $dir"; else rm -rf "$dir"; fi
    exit "$status"
}

# --- the act ------------------------------------------------------------------------------------

start_daemon() {
    heading "3. The daemon starts; nobody is enrolled yet"
    local cutover
    mkdir -p "$dir/etc/conf.d" "$dir/run" "$dir/state"
    cutover=$(date -u -d "@$(($(date +%s) + cutover_after))" +%Y-%m-%dT%H:%M:%SZ)
    cutover_at=$(date -u -d "$cutover" +%s)
    cat >"$dir/etc/pecsync.toml" <<CONF
[daemon]
conf_dir = "conf.d"
state_dir = "$dir/state"
control_socket = "$dir/run/control.sock"
exit_when_completed = true

[migration.demo]
domains = ["pec.demo.example"]
timezone = "Europe/Rome"
cutover = "$cutover"

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

[migration.demo.sync]
sweep_interval = "5s"
in_doubt_wait = "5s"
CONF
    chmod 600 "$dir/etc/pecsync.toml"
    say "pecsync.toml names the two servers and the cutover, $cutover_after seconds from now:"
    sed -n '/^\[migration.demo\]/,/^$/p' "$dir/etc/pecsync.toml" | sed '/^$/d' | indented
    "$pecsync" check --config "$dir/etc/pecsync.toml" >"$dir/check" 2>&1 ||
        { indented <"$dir/check"; fail "pecsync check does not like the configuration"; }
    : >"$dir/daemon.log"
    "$pecsync" run --log stderr --config "$dir/etc/pecsync.toml" </dev/null >>"$dir/daemon.log" 2>&1 &
    daemon=$!
    # tail ends with the daemon.
    tail --pid="$daemon" -s 0.2 -n +1 -f "$dir/daemon.log" 2>/dev/null |
        sed -u -E "s/^[0-9-]+T([0-9:]+)Z/\1/; s/ $address: / /" | indented &
    reader=$!
    wait_until 20 status_answers || fail "the daemon does not answer"
}

enroll() {
    heading "4. An enrollment is dropped into conf.d"
    cat >"$dir/etc/conf.d/.draft" <<CONF
address = "$address"
[source]
password = "$source_password"
[target]
user = "$target_user"
password = "$target_password"
CONF
    chmod 600 "$dir/etc/conf.d/.draft"
    sed -E 's/^(password = ).*/\1"…"/' "$dir/etc/conf.d/.draft" | indented
    enrolled_at=$(now_ms)
    mv "$dir/etc/conf.d/.draft" "$dir/etc/conf.d/mario.rossi.toml"
    say "mv .draft mario.rossi.toml – that is all it takes."
}

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
    say "Everything is over there after $(elapsed "$enrolled_at"); from now on the account is followed."
    "$pecsync" status --config "$dir/etc/pecsync.toml" 2>&1 | indented
}

watch_following() {
    heading "6. Life goes on at the old server until the cutover"
    local started
    delivered=0
    for folder in INBOX INBOX INBOX.Clienti; do
        delivered=$((delivered + 1))
        started=$(now_ms)
        deliver "$folder" $((9000 + delivered)) posta-certificata "Appena arrivata n° $delivered"
        say "a new message comes into $folder …"
        at_new search mailbox "$(echo "$folder" | sed 's/^INBOX\.//')" \
            header Message-ID "<opec.$((9000 + delivered))@pec.demo.example>" &&
            say "… and is at the new server $(elapsed "$started") later."
    done

    started=$(now_ms)
    old flags add -u "$address" '\Flagged daEvadere' mailbox INBOX header Message-ID "<opec.9001@pec.demo.example>"
    say "its owner flags the first one …"
    at_new search mailbox INBOX flagged keyword daEvadere header Message-ID "<opec.9001@pec.demo.example>" &&
        say "… which shows at the new server $(elapsed "$started") later."

    started=$(now_ms)
    old move -u "$address" INBOX.Archivio.2024 mailbox INBOX header Message-ID "<opec.9002@pec.demo.example>"
    say "and files the second one in Archivio/2024 …"
    at_new search mailbox Archivio/2024 header Message-ID "<opec.9002@pec.demo.example>" &&
        say "… where it lies at the new server $(elapsed "$started") later."
}

watch_cutover() {
    heading "7. The cutover, by the clock"
    local left=$((cutover_at - $(date +%s))) status=0
    [ "$left" -le 0 ] || say "$left seconds to go; one more message will come in just before it."
    while left=$((cutover_at - $(date +%s))) && [ "$left" -gt 1 ]; do
        [ $((left % 10)) -ne 0 ] || say "$left s: the account is $(phase)"
        alive
        sleep 1
    done
    delivered=$((delivered + 1))
    say "… there it is …"
    deliver INBOX 9100 posta-certificata "All'ultimo minuto"
    local tries
    for tries in $(seq 300); do
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.2
    done
    kill -0 "$daemon" 2>/dev/null && fail "the account has not completed a minute after the cutover: $(phase)"
    wait "$daemon" || status=$?
    daemon=
    wait "$reader" || true
    [ "$status" -eq 0 ] || fail "the daemon ended with exit code $status"
    say "The account has completed, $(($(date +%s) - cutover_at)) s after the cutover, and the daemon ended by itself (exit_when_completed)."
}

verify() {
    heading "8. Is it exact? Asking doveadm, sha256sum and openssl, not pecsync"
    take_all source old "$address"
    local there wrong=0
    there=$(wc -l <"$dir/source.index")
    check "the old server has what was there and what came in, untouched" source_is_untouched
    check "each of $there messages is at the new server exactly once: folder, SHA-256, date, flags" verify_copy
    check "all folders are there, the empty one too" verify_folders
    signed=$(verify_signatures source)
    check "all $signed signatures still verify at the new server" signatures_hold
    check "no password is in the daemon's log" log_keeps_secrets
    [ "$wrong" -eq 0 ] || { show_differences; fail "$wrong of 5 checks do not hold"; }
    printf '\n%sVERDICT: EXACT%s – %s messages moved, %s of them signed, none lost, none twice, none altered (%s s).\n' \
        "$green$bold" "$plain" "$there" "$signed" "$SECONDS"
}

# --- the judge's questions ----------------------------------------------------------------------

# Two lines of the index changed by the owner (a flag, a move), the delivered ones came, that is all.
source_is_untouched() {
    local lost come
    lost=$(LC_ALL=C comm -23 "$dir/before.index" "$dir/source.index" | wc -l)
    come=$(LC_ALL=C comm -13 "$dir/before.index" "$dir/source.index" | wc -l)
    [ "$lost" -eq 0 ] && [ "$come" -eq "$delivered" ] &&
        diff <(cut -f2 "$dir/source.index" | sort -u) <(sha256sum "$dir"/mail/*.eml | cut -d' ' -f1 | sort -u) >/dev/null
}

signatures_hold() { [ "$signed" -gt "$messages" ] && [ "$(verify_signatures copy)" -eq "$signed" ]; }

log_keeps_secrets() { ! grep -qF -e "$source_password" -e "$target_password" "$dir/daemon.log"; }

main
