# Two real Dovecot servers on loopback. Sourced by run.sh; everything lies in $dir.

# A throw-away CA, a certificate of it for the servers, and one that signs mail.
make_certificates() {
    local ca=$dir/ca
    mkdir -p "$ca"
    new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }
    issue() { # NAME SUBJECT EXTENSIONS
        new_key "$ca/$1.key"
        openssl req -new -key "$ca/$1.key" -subj "$2" -out "$ca/$1.csr"
        openssl x509 -req -in "$ca/$1.csr" -CA "$ca/ca.pem" -CAkey "$ca/ca.key" -days 2 \
            -extfile <(printf '%b' "$3") -out "$ca/$1.pem" 2>/dev/null
    }
    new_key "$ca/ca.key"
    openssl req -x509 -new -key "$ca/ca.key" -days 2 -subj "/O=Gestore PEC di prova/CN=CA di prova" \
        -addext "keyUsage=critical,keyCertSign,cRLSign" -out "$ca/ca.pem"
    issue server "/CN=localhost" "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"
    issue signer "/O=Gestore PEC di prova/CN=Posta Certificata" \
        "subjectAltName=email:posta-certificata@pec.demo.example\nkeyUsage=digitalSignature\nextendedKeyUsage=emailProtection\n"
}

free_port() {
    local port
    for port in $(shuf -i 20000-30000 -n 100); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}

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

# With $master_password the server takes the login of a service, migratore, too.
# start_server NAME PORT TIME_ZONE USER PASSWORD LOCATION SEPARATOR PREFIX [FOLDER SPECIAL_USE]...
start_server() {
    local name=$1 port=$2 zone=$3 user=$4 password=$5 location=$6 separator=$7 prefix=$8
    local home=$dir/$name
    shift 8
    mkdir -p "$home/mail"
    chmod 777 "$home/mail"
    printf '%s:{PLAIN}%s\n' "$user" "$password" >"$home/users"
    {
        cat <<CONF
protocols = imap
listen = 127.0.0.1
base_dir = $home/base
state_dir = $home/state
log_path = $home/log
auth_verbose = yes
auth_username_format = %u
first_valid_uid = 1
default_vsz_limit = 1G
mail_fsync = never
ssl = required
ssl_cert = <$dir/ca/server.pem
ssl_key = <$dir/ca/server.key
service imap-login {
  chroot =
  inet_listener imap {
    port = 0
  }
  inet_listener imaps {
    port = $port
    ssl = yes
  }
}
$(master_login "$home")
passdb {
  driver = passwd-file
  args = username_format=%u $home/users
}
userdb {
  driver = static
  args = uid=65534 gid=65534 home=$home/mail/%u allow_all_users=yes
}
mail_location = $location
namespace inbox {
  inbox = yes
  separator = $separator
  prefix = $prefix
CONF
        while [ $# -gt 0 ]; do
            printf '  mailbox "%s" {\n    auto = create\n    special_use = %s\n  }\n' "$1" "$2"
            shift 2
        done
        echo "}"
    } >"$home/dovecot.conf"
    # Its standard handles stay open as long as it runs: they must not be ours.
    TZ=$zone dovecot -c "$home/dovecot.conf" </dev/null >"$home/errors" 2>&1 ||
        { cat "$home/errors" >&2; return 1; }
    local tries
    for tries in $(seq 100); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return
        sleep 0.1
    done
    cat "$home/errors" "$home/log" >&2
    return 1
}

master_login() {
    [ -n "${master_password:-}" ] || return 0
    printf 'migratore:{PLAIN}%s\n' "$master_password" >"$1/masters"
    cat <<CONF
auth_master_user_separator = *
passdb {
  driver = passwd-file
  args = $1/masters
  master = yes
}
CONF
}

# Ends a server by the id it wrote down itself.
stop_server() {
    local pid_file=$dir/$1/base/master.pid pid tries
    [ -s "$pid_file" ] || return 0
    pid=$(cat "$pid_file")
    kill "$pid" 2>/dev/null || return 0
    for tries in $(seq 50); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
}

old() { doveadm -c "$dir/old/dovecot.conf" "$@"; }
new() { doveadm -c "$dir/new/dovecot.conf" "$@"; }

# Runs the raw IMAP on standard input as a user, octets as they are, and prints the answers. What
# Dovecot has not said yet when its input ends is never said: the input stays open until it has
# answered the last command. imap SERVER USER
imap() {
    local gate fifo last=z$RANDOM$RANDOM
    fifo=$dir/$last.fifo
    mkfifo "$fifo"
    exec {gate}<>"$fifo"
    { cat; printf '%s NOOP\r\n' "$last"; read -r -u "$gate"; } | "$1" exec imap -u "$2" 2>/dev/null |
        { LC_ALL=C sed "/^$last OK/q"; echo >&"$gate"; }
    exec {gate}>&-
    rm "$fifo"
}
