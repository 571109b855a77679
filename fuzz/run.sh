#!/usr/bin/env bash
# Builds the fuzzers with the ordinary toolchain, lets each run for SECONDS_PER_TARGET (60) seconds,
# as many at once as there are JOBS (processors), and says in one line how it went.
#
#   fuzz/run.sh [NAME…]
#
# Each begins with fuzz/corpus/NAME and with what former runs found worth keeping, in
# fuzz/target/corpus/NAME. Octets for which something does not hold are left in fuzz/found/NAME.
set -euo pipefail
cd "$(dirname "$0")"
exec </dev/null
seconds=${SECONDS_PER_TARGET:-60}
jobs=${JOBS:-$(nproc)}
host=$(rustc -vV | sed -n 's/^host: //p')
names=("$@")
[ "$#" -gt 0 ] || mapfile -t names < <(sed -n 's/^name = "\([a-z_]*\)"$/\1/p' Cargo.toml)

# What `cargo fuzz --sanitizer none` passes too: coverage that libFuzzer reads, without nightly.
coverage=(-Cpasses=sancov-module)
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    coverage+=("-Cllvm-args=-sanitizer-coverage-$option")
done

build() {
    ../tests/support/install.sh g++
    local bins=("${names[@]/#/--bin=}")
    RUSTFLAGS="${coverage[*]}" cargo build --release --target "$host" "${bins[@]}"
}

# A response, a file and a request are bounded; a slow one is as bad as a wrong one.
fuzz() {
    local name=$1 kept=target/corpus/$1 found=found/$1
    mkdir -p "$kept" "$found"
    "target/$host/release/$name" -max_total_time="$seconds" -max_len=16384 -timeout=10 \
        -rss_limit_mb=512 -print_final_stats=1 -artifact_prefix="$found/" "$kept" "corpus/$name" \
        >"target/$name.log" 2>&1 &&
        rmdir --ignore-fail-on-non-empty "$found"
}

executions() {
    sed -nE 's/^stat::number_of_executed_units: ([0-9]+)/\1/p' "target/$1.log"
}

build
mkdir -p target/corpus found
failed=()
declare -A running=()
collect() { # waits for one of those that run
    local pid status=0
    wait -n -p pid || status=$?
    local name=${running[$pid]}
    if [ "$status" -eq 0 ]; then
        printf '%-14s %12s executions\n' "$name" "$(executions "$name")"
    else
        failed+=("$name")
        printf '%-14s FAILED\n' "$name"
        grep -A 3 -E 'panicked at|^==.*ERROR|unit written to' "target/$name.log" | cut -c1-200 || true
    fi
    unset "running[$pid]"
}
for name in "${names[@]}"; do
    [ "${#running[@]}" -lt "$jobs" ] || collect
    fuzz "$name" &
    running[$!]=$name
done
while [ "${#running[@]}" -gt 0 ]; do collect; done

if [ "${#failed[@]}" -gt 0 ]; then
    echo "VERDICT: FAILED – ${failed[*]}: the octets are in fuzz/found, target/*/release/NAME FILE repeats it."
    exit 1
fi
total=0
for name in "${names[@]}"; do total=$((total + $(executions "$name"))); done
echo "VERDICT: ${#names[@]} fuzzers ran $seconds s each, $total executions, nothing found."
