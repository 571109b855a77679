#!/bin/bash
# Starts Courier in a box, in the foreground: `courier.sh DIR PORT`. DIR holds `users` (a name, a
# blank, a password); their mail comes to lie in DIR/mail.
set -euo pipefail
dir=$1 port=$2
lib=/usr/lib/courier

mkdir -p "$dir/mail" /run/courier/authdaemon
cat >/etc/courier/authdaemonrc <<END
authmodulelist="authuserdb"
authmodulelistorig="authuserdb"
daemons=5
authdaemonvar=/run/courier/authdaemon
END
while read -r user password; do
    home=$dir/mail/$user
    mkdir -p "$home"
    maildirmake.courier "$home/Maildir"
    printf '%s\tuid=65534|gid=65534|home=%s|mail=%s\n' "$user" "$home" "$home/Maildir" >&3
    printf '%s\timappw=%s\n' "$user" "$(openssl passwd -6 -stdin <<<"$password")" >&4
done <"$dir/users" 3>/run/users 4>/run/passwords
for part in users:userdb passwords:userdbshadow; do
    { cat "/run/${part%:*}" && echo .; } |
        $lib/courier-authlib/makedatprog - /etc/courier/dat "/etc/courier/${part#*:}.dat"
done
chown -R nobody:nogroup "$dir/mail"
$lib/courier-authlib/authdaemond &
while [ ! -S /run/courier/authdaemon/socket ]; do sleep 0.05; done
set -a
. /etc/courier/imapd
# As shipped, Courier throws away what is older than a week in the Trash.
IMAP_EMPTYTRASH=
# One gamin for each box, although abstract sockets are shared.
GAM_CLIENT_ID=$port
exec couriertcpd -address=127.0.0.1 -maxprocs=100 -maxperip=100 -nodnslookup -noidentlookup \
    "$port" $lib/courier/imaplogin /usr/bin/imapd Maildir
