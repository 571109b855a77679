#!/usr/bin/env bash
# Breaks the product in one way after the other and has simulated worlds find it out: each patch
# here is a mistake somebody could make, its first line says which. Names as arguments pick some.
# Works on a copy of the tree in target/mutants; ends with a table and a verdict.
set -uo pipefail
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-$PWD/target}
tree=$target/mutants
export CARGO_TARGET_DIR=$target
# Builds cost more than worlds here: of the product, unoptimised; the first failure is enough.
export CARGO_PROFILE_DEV_OPT_LEVEL=0 PECSYNC_SIM_FAIL_FAST=1
export PECSYNC_SIM_WORLDS=${PECSYNC_SIM_WORLDS:-1500} RUST_BACKTRACE=0
output=$(mktemp)
trap 'rm -f "$output"' EXIT

mkdir -p "$tree"
copy_tree() { # only what differs, so that cargo builds only that
    local file
    git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
        [ ! -f "$file" ] || cmp --quiet "$file" "$tree/$file" || install -D "$file" "$tree/$file"
    done
}

worlds() { # a first part of the worlds, then the others; what does not end is no mutant caught
    local part
    for part in found:: faults:: crash:: everywhere:: capabilities::; do
        (cd "$tree" && timeout 1800 cargo test --test sim -- "$part" --nocapture) >"$output" 2>&1 || return 1
    done
}

caught=0
survived=()
for patch in tests/mutants/*.patch; do
    name=$(basename "$patch" .patch)
    [ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || continue
    copy_tree
    # The copy is no repository, and git is not to look for one above it.
    (cd "$tree" && GIT_CEILING_DIRECTORIES=$target git apply --recount -) <"$patch" || { echo "$name: does not apply"; exit 1; }
    if ! (cd "$tree" && cargo test --test sim --no-run) >"$output" 2>&1; then
        tail -n 30 "$output"
        echo "$name: does not build"
        exit 1
    fi
    SECONDS=0
    if worlds || ! grep --quiet '^test result: FAILED' "$output"; then
        survived+=("$name")
        printf '%-28s SURVIVED  %4s s  %s\n' "$name" "$SECONDS" "$(head -n 1 "$patch")"
    else
        caught=$((caught + 1))
        printf '%-28s caught    %4s s  %s\n' "$name" "$SECONDS" "$(head -n 1 "$patch")"
        grep --max-count=1 '^FAILED' "$output" | cut -c1-150 | sed 's/^FAILED/    world/'
    fi
done

if [ ${#survived[@]} -eq 0 ]; then
    echo "VERDICT: all $caught mutants were caught."
else
    echo "VERDICT: $caught mutants were caught, ${#survived[@]} survived: ${survived[*]}"
    exit 1
fi
