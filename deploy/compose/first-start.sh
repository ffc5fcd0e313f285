#!/bin/sh
# What the services of deploy/compose.yaml share, made at the first start and left alone afterwards: the settings of the
# hosts, with the database's password and the key of secrets; and that password once more, for PostgreSQL.
#
# $1 is the directory of the settings, $2 that of the password. Whoever has the volume of the settings can read secrets:
# keep a copy of ringfence.toml, without which a backup of the database tells none.
set -eu
settings=${1:-/etc/ringfence}
password=${2:-/var/lib/ringfence}
umask 077

if [ ! -s "$password/password" ]; then
  head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$password/password.new"
  # PostgreSQL reads it as a user of its own. No other service has this volume.
  chmod 0444 "$password/password.new"
  chmod 0755 "$password"
  mv "$password/password.new" "$password/password"
fi
if [ ! -s "$settings/ringfence.toml" ]; then
  {
    echo "database_url = \"postgresql://ringfence:$(cat "$password/password")@postgres:5432/ringfence\""
    echo "secrets_key = \"$(head -c 32 /dev/urandom | base64 | tr -d '\n')\""
  } >"$settings/ringfence.toml.new"
  mv "$settings/ringfence.toml.new" "$settings/ringfence.toml"
fi
