#!/usr/bin/env bash
# Makes certificates for the plant's own broker: an authority, and a certificate for each given name.
# It must never replace an existing authority's key: every line and gateway would need the new certificate.
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
# Every user may read the certificates, but not the keys. Give the broker's key an owner or group so that it
# can read it.
chmod 0644 "$dir/ca.crt" "$dir/broker.crt"
printf '%s\n' "$dir/ca.crt for lines and gateways (mqtt.ca_file); keep $dir/ca.key away from all of them"
