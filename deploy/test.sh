#!/usr/bin/env bash
# Installs what the tests need, including system packages, and runs them: bash deploy/test.sh [pytest args]
# With arguments it runs pytest once, with those. Without, it runs every group of tests, also after one that
# fails; its last line is the total over all groups.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. deploy/venv.sh

packages=(
    mosquitto mosquitto-clients                               # a real broker, and a client that isn't ours
    gir1.2-aravis-0.8 libgirepository1.0-dev libcairo2-dev    # GigE Vision, and what PyGObject is built with
    pkg-config gcc
    python3-gi gir1.2-gst-rtsp-server-1.0                     # an RTSP server, in the system's Python
    curl openssl nginx                                        # as the handbook says
    systemd procps iptables                                   # the unit, verified and run; a network that breaks
    chromium                                                  # the review page, as operators see it
    prometheus                                                # promtool, which reads the alerts as it will
    gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly
)

has_headers() {
    "$1" -c 'import pathlib, sys, sysconfig
sys.exit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists())'
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# apt_install PACKAGE...: installs the missing packages.
apt_install() {
    local package missing=()
    for package in "$@"; do
        if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            missing+=("$package")
        fi
    done
    if [ ${#missing[@]} = 0 ]; then return 0; fi
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        say "missing system packages, and neither root nor sudo to install them: ${missing[*]}"
        return 1
    fi
    say "installing ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

if command -v apt-get >/dev/null; then
    if ! find_python >/dev/null 2>&1; then apt_install python3 python3-venv; fi
    apt_install "${packages[@]}"
    if ! has_headers "$(find_python)"; then apt_install python3-dev; fi
else
    say "no apt-get here: the tests that need Mosquitto, Aravis or GStreamer look for them as they are"
fi
make_venv
# Python compiles a module when it first imports it; pip would compile thousands that no test imports.
export PIP_NO_COMPILE="${PIP_NO_COMPILE:-1}"
extras=export,gige,openvino,test
# Ray is for the tests of the fleet alone.
case " $* " in *tests/fleet*) extras+=,fleet ;; esac
install_project "$extras"
# The command line sets these too: threads that spin while they wait slow down every other process, and
# without a fixed order of MKL's sums the same seed gives another student.
export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-1000}"
export MKL_CBWR="${MKL_CBWR:-AUTO}"
if [ $# -gt 0 ]; then exec .venv/bin/python -m pytest "$@"; fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# Ctrl-C ends all groups, not only the current one.
trap 'exit 130' INT TERM
export TESTS_SHARED="$folder/shared"
mkdir "$TESTS_SHARED"
results=() failed=()

# group NAME MARKERS [pytest args]: runs the tests with these markers (see pyproject.toml).
group() {
    local name=$1 markers=$2 code=0
    shift 2
    printf '\n== tests: %s\n' "$name"
    results+=("$folder/$name.xml")
    .venv/bin/python -m pytest -m "$markers" --durations=15 --junit-xml="$folder/$name.xml" "$@" || code=$?
    # Exit code 5 means that the group has no test.
    if [ $code != 0 ] && [ $code != 5 ]; then failed+=("$name"); fi
}

# The numbers fit 2 cores. Unit tests run with one thread each, except those that ask for two: with two threads
# each, processes in parallel would only wait for each other. The first two groups get their folders, because
# pytest imports every test that it collects; as `testpaths`, because slow tests run where their folder is named.
threads=${OMP_NUM_THREADS:-}
export OMP_NUM_THREADS="${threads:-1}"
group unit "not integration and not gige and not timing and not systemd" \
    -n 3 --dist loadfile -o testpaths="tests/unit tests/promises"
if [ -z "$threads" ]; then unset OMP_NUM_THREADS; fi
# Programs mostly wait, so more of them than cores run in parallel.
group programs "integration and not gige and not timing and not systemd" \
    -n 3 --dist loadgroup -o testpaths="tests/integration tests/faults"
group timed "gige or timing or systemd"

printf '\n'
if [ ${#failed[@]} -gt 0 ]; then printf 'failed group: %s\n' "${failed[@]}"; fi
.venv/bin/python -m tests.totals "${results[@]}"
[ ${#failed[@]} = 0 ]
