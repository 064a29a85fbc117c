#!/usr/bin/env bash
# Makes a folder from which deploy/install.sh installs on a machine without a network.
# It must run on the same kind of machine with the same Python version as the line PC, because wheels fit only
# that.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: bash deploy/bundle.sh DIR [--extras LIST] [--own-only] [--python PATH]
  then, on the line PC: sudo bash DIR/deploy/install.sh

  --extras LIST   with what these need, as in --extras gige
  --own-only      without torch and the others, 3 GB: for bringing an installed line up to date
  --python PATH   the Python of the line PC's version (default: the first one found)
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tree=$(dirname "$here")
. "$here/venv.sh"

fail() { say "bundle.sh: $*"; exit 1; }

target='' extras='' own_only=''
while [ $# -gt 0 ]; do
    case $1 in
        --extras | --python)
            if [ -z "${2:-}" ]; then say "bundle.sh: $1 needs a value"; usage >&2; exit 2; fi
            case $1 in
                --extras) extras=$2 ;;
                --python)
                    PYTHON=$2
                    new_enough "$PYTHON" || fail "$PYTHON is no Python 3.11 or newer with venv"
                    ;;
            esac
            shift 2
            ;;
        --own-only) own_only=--no-deps; shift ;;
        -h | --help) usage; exit 0 ;;
        -*) say "bundle.sh: unknown argument $1"; usage >&2; exit 2 ;;
        *) target=$1; shift ;;
    esac
done
if [ -z "$target" ]; then usage >&2; exit 2; fi
mkdir -p "$target"
target=$(cd "$target" && pwd)
if [ -n "$(ls -A "$target")" ]; then
    fail "$target is not empty: name a new folder, so that no old wheel is carried along"
fi

python=$(find_python)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
# The wheel is built from a copy, because the build leaves folders behind.
mkdir "$work/tree" "$target/wheels"
(cd "$tree" && cp -r monitor drivers config pyproject.toml README.md LICENSE "$work/tree/")
say "gathering wheels for $("$python" --version) in $target/wheels"
"$work/venv/bin/python" -m pip wheel --quiet --disable-pip-version-check $own_only \
    --wheel-dir "$target/wheels" "$work/tree${extras:+[$extras]}"
"$python" -c 'import platform, sys; print("%d.%d" % sys.version_info[:2], platform.machine())' >"$target/wheels/made-for"
mkdir "$target/config" "$target/deploy"
cp -r "$tree/config/." "$target/config/"
cp -r "$here/." "$target/deploy/"
find "$target" -name __pycache__ -type d -prune -exec rm -rf {} +
say "done: $(du -sh "$target" | cut -f1); on the line PC: sudo bash $(basename "$target")/deploy/install.sh${extras:+ --extras $extras}"
