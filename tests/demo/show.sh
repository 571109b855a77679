# What both demos show, ask and wait for. Sourced.

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

check() { # TEXT COMMAND
    if "$2"; then say "${green}✓${plain} $1"; else say "${red}✗${plain} $1"; wrong=$((wrong + 1)); fi
}

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
