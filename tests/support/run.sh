#!/usr/bin/env bash
# Runs all tests with cargo's own output, then says in one line how it went.
# Arguments go to the test runners.
set -uo pipefail
cd "$(dirname "$0")/../.."

output=$(mktemp)
trap 'rm -f "$output"' EXIT
SECONDS=0
# The disk of a small machine is soon full of what incremental builds of so many binaries keep.
export CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}
cargo test --workspace --no-fail-fast -- "$@" </dev/null 2>&1 | tee "$output"
status=${PIPESTATUS[0]}

sum() { # passed|failed|ignored
    sed -nE "s/^test result: .* ([0-9]+) $1;.*/\1/p" "$output" | awk '{ sum += $1 } END { print sum + 0 }'
}
echo
if [ "$status" -eq 0 ]; then
    echo "VERDICT: all $(sum passed) tests passed, $(sum ignored) ignored (${SECONDS} s)."
else
    grep -E '^test .* FAILED$' "$output" | sort -u
    echo "VERDICT: FAILED – $(sum failed) tests failed, $(sum passed) passed (${SECONDS} s)."
fi
exit "$status"
