#!/usr/bin/env bash
# Proves the figures of a GPU in at most 10 minutes, on a machine with CUDA, Python 3.12, torch 2.11 and
# torchvision 0.26, but without a package registry.
#
#   bash deploy/gpu-proof.sh wheels DIR      with a registry: downloads what the GPU machine may lack into DIR
#   bash deploy/gpu-proof.sh [--wheels DIR] [--out DIR] [--rehearse]
#
# The figures are in OUT/gpu.json (default: ./gpu-proof), and as the documents' tables in OUT/gpu.md. The exit
# code is 0 only if every goal was reached. --rehearse runs all of it on a CPU, with small numbers.
set -euo pipefail
caller=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}

# A module and its package, for what does not come with torch and torchvision. All wheels together have at
# most 64 MiB, OpenCV's 58.
needs=(
    cv2:opencv-python-headless simplejpeg:simplejpeg tifffile:tifffile msgspec:msgspec safetensors:safetensors
    pytest:pytest iniconfig:iniconfig pluggy:pluggy packaging:packaging pygments:pygments
)

say() { printf '%s\n' "$*" >&2; }

absolute() { case $1 in /*) printf '%s\n' "$1" ;; *) printf '%s\n' "$caller/$1" ;; esac; }

download() {
    local folder=$1 platform platforms=()
    for platform in manylinux_2_28 manylinux_2_27 manylinux_2_26 manylinux_2_17 manylinux2014; do
        platforms+=(--platform "${platform}_x86_64")
    done
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --python-version 3.12 --implementation cp "${platforms[@]}" --dest "$folder" "${needs[@]#*:}"
    local bytes
    bytes=$(cat "$folder"/*.whl | wc -c)
    say "$((bytes >> 20)) MiB in $folder"
    if [ "$bytes" -gt $((64 << 20)) ]; then
        say "more than 64 MiB: delete the wheel of OpenCV, if the GPU machine has cv2"
    fi
}

if [ "${1:-}" = wheels ]; then
    [ $# = 2 ] || { say "usage: bash deploy/gpu-proof.sh wheels DIR"; exit 2; }
    download "$(absolute "$2")"
    exit
fi

wheels='' out=$caller/gpu-proof options=()
while [ $# -gt 0 ]; do
    case $1 in
        --wheels) wheels=$(absolute "${2:?--wheels needs a folder}"); shift 2 ;;
        --out) out=$(absolute "${2:?--out needs a folder}"); shift 2 ;;
        --rehearse) options+=(--rehearse); shift ;;
        *) say "unknown: $1"; exit 2 ;;
    esac
done
mkdir -p "$out"
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT

missing=()
for need in "${needs[@]}"; do
    if ! "$python" -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('${need%%:*}') is None)"; then
        missing+=("${need#*:}")
    fi
done
if [ ${#missing[@]} -gt 0 ]; then
    if [ -z "$wheels" ]; then
        say "missing: ${missing[*]}: run 'bash deploy/gpu-proof.sh wheels DIR' where a registry is, and carry DIR here"
        exit 1
    fi
    "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile \
        --find-links "$wheels" --target "$site" "${missing[@]}"
fi
# The project itself runs from this checkout.
export PYTHONPATH="$PWD:$site" PYTHONUNBUFFERED=1
code=0
timeout 570 "$python" -P -m tests.benchmarks.gpu_proof --json "$out/gpu.json" "${options[@]}" || code=$?
if [ -s "$out/gpu.json" ]; then
    "$python" -P -m tests.benchmarks.gpu_proof --table "$out/gpu.json" >"$out/gpu.md"
    say "figures: $out/gpu.json, tables: $out/gpu.md"
fi
exit "$code"
