# Certified mail for the demo: transport envelopes and receipts in the shape of PEC, each really
# signed (S/MIME) by the throw-away provider. Sourced by run.sh.

# The part that a provider signs. entity NUMBER KIND SUBJECT
entity() {
    local number=$1 kind=$2 subject=$3
    cat <<MIME
Content-Type: multipart/mixed; boundary="busta-$number"

--busta-$number
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Il messaggio "$subject" è stato trattato il giorno $((1 + number % 28))/0$((1 + number % 9))/2025.
--busta-$number
Content-Type: application/xml; name="daticert.xml"
Content-Disposition: attachment; filename="daticert.xml"

<?xml version="1.0" encoding="UTF-8"?>
<postacert tipo="$kind" errore="nessuno"><intestazione><mittente>studio$((number % 17))@pec.cliente.example</mittente><oggetto>$subject</oggetto></intestazione></postacert>
MIME
    if [ "$kind" = posta-certificata ] || [ "$kind" = avvenuta-consegna ]; then
        cat <<MIME
--busta-$number
Content-Type: message/rfc822; name="postacert.eml"
Content-Disposition: attachment; filename="postacert.eml"

From: studio$((number % 17))@pec.cliente.example
To: $address
Subject: $subject
Message-ID: <pratica.$number@pec.cliente.example>
MIME-Version: 1.0
Content-Type: application/octet-stream; name="pratica.bin"
Content-Transfer-Encoding: base64

$(openssl rand -base64 $((300 + number * 7919 % 30000)))
MIME
    fi
    echo "--busta-$number--"
}

# A whole message, with CRLF, on standard output. signed_message NUMBER KIND SUBJECT
signed_message() {
    local number=$1 kind=$2 subject=$3
    {
        echo "Return-Path: <posta-certificata@pec.demo.example>"
        echo "From: \"Per conto di: studio$((number % 17))\" <posta-certificata@pec.demo.example>"
        echo "To: $address"
        case $kind in
            posta-certificata)
                echo "X-Trasporto: $kind"
                echo "Subject: POSTA CERTIFICATA: $subject" ;;
            *)
                echo "X-Ricevuta: $kind"
                echo "X-TipoRicevuta: completa"
                echo "Subject: ${kind^^}: $subject" ;;
        esac
        echo "X-Riferimento-Message-ID: <pratica.$number@pec.cliente.example>"
        echo "Message-ID: <opec.$number@pec.demo.example>"
    } | sed 's/$/\r/'
    # openssl ends the lines of the signature in a bare LF, and Dovecot would mend that.
    entity "$number" "$kind" "$subject" |
        openssl cms -sign -crlfeol -signer "$dir/ca/signer.pem" -inkey "$dir/ca/signer.key" \
            -certfile "$dir/ca/ca.pem" | sed 's/\r*$/\r/'
}

# Most of a real account is receipts. kind_of NUMBER
kind_of() {
    case $(($1 % 10)) in
        0 | 1 | 2) echo posta-certificata ;;
        3 | 4) echo avvenuta-consegna ;;
        *) echo accettazione ;;
    esac
}

# Writes messages FIRST to LAST as files, on all processors.
make_messages() {
    local first=$1 last=$2 jobs worker number
    jobs=$(nproc)
    for worker in $(seq 0 $((jobs - 1))); do
        for ((number = first + worker; number <= last; number += jobs)); do
            signed_message "$number" "$(kind_of "$number")" "Pratica n° $number" >"$dir/mail/$number.eml"
        done &
        workers[worker]=$!
    done
    wait "${workers[@]}"
}

# One APPEND as raw IMAP on standard output, the octets as they are. append_command FOLDER NUMBER FILE
append_command() {
    local folder=$1 number=$2 file=$3 flags date
    local all_flags=("\\Seen" "" "\\Seen \\Answered" "\\Flagged" "\\Seen \$Forwarded" "\\Seen daProtocollare")
    flags=${all_flags[number % 6]}
    TZ=UTC0 printf -v date '%(%d-%b-%Y %H:%M:%S +0000)T' $((1736000000 + number * 86413))
    printf 'a%s APPEND "%s" (%s) "%s" {%s+}\r\n' "$number" "$folder" "$flags" "$date" "$(stat -c %s "$file")"
    cat "$file"
    printf '\r\n'
}

# Feeds raw IMAP commands from standard input to the old server; fails if it refuses one.
feed_old() {
    local refused
    refused=$(imap old "$address" | grep -aE '^[a-z][0-9]* (NO|BAD)' || true)
    [ -z "$refused" ] || { echo "$refused" >&2; return 1; }
}

# Appends one fresh signed message at the old server, now. deliver FOLDER NUMBER KIND SUBJECT
deliver() {
    local file=$dir/mail/$2.eml
    signed_message "$2" "$3" "$4" >"$file"
    append_command "$1" "$2" "$file" | sed -E '1s/\([^)]*\) "[^"]*" //' | feed_old
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
