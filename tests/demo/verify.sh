# The judge of the demo: doveadm, sha256sum, openssl and diff; no line of pecsync. Sourced by run.sh.

# Takes everything an account shows into $dir/NAME, a file a message, and writes $dir/NAME.index:
# folder, SHA-256, instant, flags – one line a message, sorted. take_all NAME SERVER USER
take_all() {
    local name=$1 server=$2 user=$3 folders number=0 folder
    mkdir -p "$dir/$name"
    mapfile -t folders < <("$server" mailbox list -7 -u "$user" | LC_ALL=C sort)
    for folder in "${folders[@]}"; do
        number=$((number + 1))
        printf 'e%s EXAMINE "%s"\r\n' "$number" "$folder"
        printf 'f%s UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])\r\n' "$number"
    done >"$dir/$name.commands"
    imap "$server" "$user" <"$dir/$name.commands" |
        perl "$here/take.pl" "$dir/$name" "${folders[@]}" >"$dir/$name.list"
    paste <(cut -f2 "$dir/$name.list") <(digests "$dir/$name") <(cut -f4,5 "$dir/$name.list") |
        LC_ALL=C sort >"$dir/$name.index"
}

digests() {
    find "$1" -name '*.eml' | LC_ALL=C sort | xargs -r sha256sum | cut -d' ' -f1
}

# The name a folder has at the new server, tab-separated fields after it untouched.
at_new_server() {
    sed -E -e 's/^INBOX\.Inviata\t/INBOX\/Spedite\t/' -e 's/^INBOX\.Bozze\t/INBOX\/Draft\t/' \
        -e 's/^INBOX\.Cestino\t/INBOX\/Trash\t/' -e 's/^INBOX\.Spam\t/INBOX\/Posta Indesiderata\t/' \
        -e 's/^INBOX\.//' -e ':level' -e 's/^([^\t]*)\.([^\t]*\t)/\1\/\2/' -e 'tlevel' | LC_ALL=C sort
}

# Every message that was planted, delivered or moved is in the index of the old server, so an exact
# copy has the same lines: same folder, digest, instant and flags, as often. verify_copy
verify_copy() {
    take_all copy new "$target_user"
    at_new_server <"$dir/source.index" >"$dir/expected.index"
    diff "$dir/expected.index" "$dir/copy.index" >"$dir/differences"
}

# Folders exist at the new server even where they hold nothing.
verify_folders() {
    old mailbox list -u "$address" | sed 's/$/\t/' | at_new_server | tr -d '\t' >"$dir/expected.folders"
    new mailbox list -u "$target_user" | LC_ALL=C sort >"$dir/copy.folders"
    LC_ALL=C comm -23 "$dir/expected.folders" "$dir/copy.folders" >"$dir/missing.folders"
    [ ! -s "$dir/missing.folders" ]
}

# Counts signed messages of a directory whose signature is whole: verify_signatures NAME
verify_signatures() {
    find "$dir/$1" -name '*.eml' -print0 | xargs -0 -r -n 50 -P "$(nproc)" bash -c '
        ca=$0; good=0
        for file; do
            openssl cms -verify -CAfile "$ca" -in "$file" -out /dev/null 2>/dev/null && good=$((good + 1))
        done
        echo "$good"' "$dir/ca/ca.pem" | awk '{ sum += $1 } END { print sum + 0 }'
}

show_differences() {
    say "< expected, > found: folder, SHA-256, instant, flags"
    head -n 20 "$dir/differences" | indented
    sed 's/^/missing folder: /' "$dir/missing.folders" | indented
}
