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

# --- what is shown ------------------------------------------------------------------------------

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'; else bold='' dim='' red='' green='' plain=''; fi

heading() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say() { printf '  %s\n' "$*"; }
indented() { sed -u -E -e 's/^(.{150}).+/\1…/' -e "s/^/    $dim│$plain /"; }

fail() {
    printf '\n%sVERDICT: FAILED%s – %s\n' "$red$bold" "$plain" "$*"
    if [ -s "$dir/daemon.log" ]; then
        say "The end of the daemon's log:"
        tail -n 15 "$dir/daemon.log" | indented
    fi
    exit 1
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

start_servers() {
    heading "1. Two mail servers"
    make_certificates
    old_port=$(free_port)
    start_server old "$old_port" CET-1 "$address" "$source_password" 'maildir:~/Maildir' . INBOX. \
        Inviata '\Sent' Bozze '\Drafts' Cestino '\Trash' Spam '\Junk'
    new_port=$(free_port)
    start_server new "$new_port" UTC0 "$target_user" "$target_password" 'sdbox:~/sdbox' / '' \
        INBOX/Spedite '\Sent' INBOX/Draft '\Drafts' INBOX/Trash '\Trash' 'INBOX/Posta Indesiderata' '\Junk'
    say "old: laid out like Aruba      127.0.0.1:$old_port  login $address  folders INBOX.Inviata …"
    say "new: laid out like Legalmail  127.0.0.1:$new_port  login $target_user  folders INBOX/Spedite …"
    say "Both are Dovecot $(dovecot --version | cut -d' ' -f1), speak TLS, and live in other time zones."
}

fill_account() {
    heading "2. An account full of certified mail at the old server"
    local folders=(INBOX INBOX INBOX INBOX.Inviata INBOX.Clienti "INBOX.Clienti.Rossi &- Figli"
        "INBOX.Perch&AOk- no" INBOX.Cestino INBOX.Archivio.2024) folder number
    for folder in "${folders[@]}" INBOX.Vuota; do
        [[ $folder =~ ^INBOX(.Inviata|.Cestino)?$ ]] || printf 'c CREATE "%s"\r\n' "$folder"
    done | feed_old
    make_messages 1 "$messages"
    {
        for ((number = 1; number <= messages; number++)); do
            append_command "${folders[number % ${#folders[@]}]}" "$number" "$dir/mail/$number.eml"
        done
        # Two receipts can be the same to the last bit: both have to arrive.
        append_command INBOX 9 "$dir/mail/9.eml"
        append_command INBOX 9 "$dir/mail/9.eml"
    } | feed_old
    take_all before old "$address"
    say "$(wc -l <"$dir/before.index") messages and receipts in $(old mailbox list -u "$address" | wc -l) folders," \
        "$(du -sh "$dir/before" | cut -f1), every one signed with S/MIME by a throw-away provider."
    say "Some are read, flagged, answered or tagged; some are identical to the last bit; one folder is empty."
}

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

check() { # TEXT COMMAND
    if "$2"; then say "${green}✓${plain} $1"; else say "${red}✗${plain} $1"; wrong=$((wrong + 1)); fi
}

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

show_differences() {
    say "< expected, > found: folder, SHA-256, instant, flags"
    head -n 20 "$dir/differences" | indented
    sed 's/^/missing folder: /' "$dir/missing.folders" | indented
}

# --- small things -------------------------------------------------------------------------------

status_json() { "$pecsync" status --json --config "$dir/etc/pecsync.toml" 2>/dev/null; }
status_answers() { status_json >/dev/null; }
phase() { status_json | grep -oE '"phase": *"[a-z]+"' | head -n 1 | cut -d'"' -f4 || true; }
reason() { status_json | tr -d '\n' | grep -oE '"reason": *\{[^}]*\}' | head -n 1; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }
elapsed() { local ms=$(($(now_ms) - $1)); printf '%d.%d s' $((ms / 1000)) $((ms % 1000 / 100)); }

# Nothing is to be waited for once the daemon has ended or holds the account.
alive() {
    kill -0 "$daemon" 2>/dev/null || fail "the daemon has ended too early"
    ! status_json | grep -qE '"condition": *"held"' || fail "the account is held: $(reason)"
}

# The counts of the whole account stand under "messages"; there is one account here.
show_progress() {
    local counts source copied
    counts=$(status_json | tr -d ' \n' | grep -oE '"messages":\{[^}]*\}' | head -n 1) || return 0
    source=$(grep -oE '"source":[0-9]+' <<<"$counts" | cut -d: -f2) || return 0
    copied=$(grep -oE '"copied":[0-9]+' <<<"$counts" | cut -d: -f2) || return 0
    [ "${source:-0}" -gt 0 ] || return 0
    local width=$((copied * 40 / source))
    say "$(printf '%-40s' "$(printf '%*s' "$width" '' | tr ' ' '#')" | tr ' ' '.') $copied of $source"
}

wait_until() { # SECONDS COMMAND...
    local tries=$(($1 * 5)) try
    shift
    for try in $(seq "$tries"); do
        "$@" && return
        sleep 0.2
    done
    return 1
}

# Waits until a search at the new server finds something. The last pass would mend what takes too
# long here, and the verdict would tell, so this only says so. at_new search QUERY...
at_new() {
    local tries
    shift
    for tries in $(seq 60); do
        [ -z "$(new search -u "$target_user" "$@" 2>/dev/null)" ] || return 0
        alive
        sleep 0.1
    done
    say "… not yet at the new server after 6 s; the pass after the cutover has to bring it."
    return 1
}

main
