#!/usr/bin/env bash
# Certificates for a broker of the plant's own: an authority, and a certificate for each name that it is given.
# It must never replace an authority's key that is there: every line and gateway would have to learn a new one.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: bash deploy/broker-certificates.sh DIR NAME...
  DIR    where ca.crt, ca.key, broker.crt and broker.key are written
  NAME   the broker's host names and addresses, as lines and gateways call it
TEXT
}

if [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; then usage; exit 0; fi
if [ $# -lt 2 ]; then usage >&2; exit 2; fi
dir=$1
shift
mkdir -p "$dir"
umask 077
years=$((10 * 365))

if [ ! -e "$dir/ca.key" ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$years" -subj "/CN=plant MQTT authority" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
        -keyout "$dir/ca.key" -out "$dir/ca.crt" 2>/dev/null
fi

names=''
for name in "$@"; do
    if [[ $name =~ ^[0-9.]+$ || $name == *:* ]]; then names+=",IP:$name"; else names+=",DNS:$name"; fi
done
extensions=$(mktemp)
trap 'rm -f "$extensions"' EXIT
printf 'subjectAltName=%s\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n' "${names#,}" >"$extensions"
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" \
    -keyout "$dir/broker.key" -out "$dir/broker.csr" 2>/dev/null
openssl x509 -req -in "$dir/broker.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" -CAcreateserial -days "$years" \
    -extfile "$extensions" -out "$dir/broker.crt" 2>/dev/null
rm -f "$dir/broker.csr"
# Certificates are for everybody; keys are not. The broker reads its own by a group or owner that you give it.
chmod 0644 "$dir/ca.crt" "$dir/broker.crt"
printf '%s\n' "$dir/ca.crt for lines and gateways (mqtt.ca_file); keep $dir/ca.key away from all of them"
