#!/bin/bash
# Starts Cyrus in a box, in the foreground: `cyrus.sh DIR PORT`. DIR holds `users` (a name, a
# blank, a password) and `options` (lines of imapd.conf); its mail and its log come to lie there.
set -euo pipefail
dir=$1 port=$2

mkdir -p "$dir"/conf/{socket,db,log,msg,proc,lock,user,quota,sieve} "$dir/spool"
cat >/etc/imapd.conf - "$dir/options" <<END
configdirectory: $dir/conf
defaultpartition: default
partition-default: $dir/spool
cyrus_user: nobody
cyrus_group: nogroup
admins: cyrus
servername: box.example
virtdomains: userid
username_tolower: no
allowplaintext: yes
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: $dir/sasldb2
sasl_mech_list: PLAIN LOGIN
autocreate_quota: 0
autocreate_post: yes
END
cat >/etc/cyrus.conf <<END
START {
}
SERVICES {
  imap cmd="imapd -U 30" listen="127.0.0.1:$port" prefork=1
}
EVENTS {
}
DAEMON {
  idled cmd="idled"
}
END
while read -r user password; do
    # Where such a directory is, Cyrus writes down every session of the user.
    mkdir -p "$dir/conf/log/$user"
    printf %s "$password" | saslpasswd2 -p -c -f "$dir/sasldb2" -u box.example "$user"
done <"$dir/users"
chown -R nobody:nogroup "$dir"/{conf,spool,sasldb2}
exec /usr/lib/cyrus/bin/master -D
