#!/usr/bin/env bash
# The whole line on this machine, from nothing: bash deploy/demo.sh [--seconds N] [--keep DIR]
# Needs Python 3.11 and a package registry; no root, no broker, no camera.
set -euo pipefail
# --keep names a folder where the caller stands, not here.
caller=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. deploy/venv.sh
make_venv
install_project
root=$PWD
cd "$caller"
exec "$root/.venv/bin/line-monitor" demo "$@"
