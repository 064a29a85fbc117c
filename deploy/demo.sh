#!/usr/bin/env bash
# Runs a whole line on this machine, without any setup: bash deploy/demo.sh [--seconds N] [--keep DIR]
# Needs Python 3.11 and a package registry; no root, no broker, no camera.
set -euo pipefail
# --keep is relative to the caller's folder, not to this one.
caller=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. deploy/venv.sh
make_venv
install_project
root=$PWD
cd "$caller"
exec "$root/.venv/bin/line-monitor" demo "$@"
