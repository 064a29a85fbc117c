#!/usr/bin/env bash
# Installs Line Monitor as a service of this machine, upgrades it, or removes it.
# It must never change settings or data, and never leave a running line with an incomplete program.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: sudo bash deploy/install.sh [options]         install, or bring up to date
       sudo bash deploy/install.sh --uninstall [--purge]

  --wheels DIR    without a network: from the folder that deploy/bundle.sh made
  --extras LIST   also install what these need, as in --extras gige
  --python PATH   the Python to install with (3.11 or newer; default: the first one found)
  --packages DIR  use the packages that are installed in DIR (a machine that came with its own torch)
  --root DIR      stage everything below DIR: nothing outside it is touched, no user made, no service started
  --uninstall     remove what was installed; settings and data stay
  --purge         remove settings and data too
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tree=$(dirname "$here")
. "$here/venv.sh"

fail() { say "install.sh: $*"; exit 1; }

root='' wheels='' extras='' packages='' uninstall='' purge=''
while [ $# -gt 0 ]; do
    case $1 in
        --root | --wheels | --extras | --python | --packages)
            if [ -z "${2:-}" ]; then say "install.sh: $1 needs a value"; usage >&2; exit 2; fi
            case $1 in
                --root) root=$2 ;;
                --wheels) wheels=$2 ;;
                --extras) extras=$2 ;;
                --python)
                    PYTHON=$2
                    new_enough "$PYTHON" || fail "$PYTHON is no Python 3.11 or newer with venv"
                    ;;
                --packages) packages=$2 ;;
            esac
            shift 2
            ;;
        --uninstall) uninstall=yes; shift ;;
        --purge) purge=yes; shift ;;
        -h | --help) usage; exit 0 ;;
        *) say "install.sh: unknown argument $1"; usage >&2; exit 2 ;;
    esac
done
if [ -n "$purge" ] && [ -z "$uninstall" ]; then
    say "install.sh: --purge goes with --uninstall"; exit 2
fi
if [ -n "$root" ]; then
    root=$(realpath -m -- "$root")
    [ "$root" != / ] || fail "--root /: leave it out to install on this machine itself"
    # The paths are written into scripts and a unit, and sed inserts them.
    case $root in
        *[!A-Za-z0-9._/-]*) fail "--root $root: name a folder of letters, digits, dots, - and _ only" ;;
    esac
    mkdir -p "$root" || fail "can't make $root: name a folder that you may write to"
elif [ "$(id -u)" != 0 ]; then
    fail "this changes the machine and needs root: sudo bash deploy/install.sh, or --root DIR to try it in a folder"
fi

# Other users must be able to read the program, for any umask of root.
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The Python must be the machine's own: the service can't read one in a user's home folder.
PYTHON=${PYTHON:-/usr/bin/python3}
user=line-monitor
home=/opt/line-monitor                      # ours
settings=/etc/line-monitor                  # the user's
data=/var/lib/line-monitor                  # the user's
cache=/var/cache/line-monitor               # ours
runtime=/run/line-monitor                   # ours
units=/usr/local/lib/systemd/system         # ours; /etc/systemd/system is for the user's drop-ins
command=/usr/local/bin/line-monitor         # ours
unit=line-monitor.service

# Uses systemd if it runs and the installation is for this machine, not for a staging folder.
managed() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

# place PATH MODE OWNER: sets the owner only if the user exists; in a staging folder it does not.
place() {
    mkdir -p "$root$1"
    chmod "$2" "$root$1"
    if [ -z "$root" ]; then chown "$3" "$root$1"; fi
}

make_user() {
    if [ -n "$root" ] || getent passwd "$user" >/dev/null; then return 0; fi
    say "making the user $user"
    useradd --system --user-group --home-dir "$data" --no-create-home --shell /usr/sbin/nologin "$user"
}

# Prints the path of the program's wheel: from --wheels, else built from the source tree.
own_wheel() {
    local found
    if [ -z "$wheels" ]; then
        # It is built from a copy, because the build leaves folders behind and another user may own the tree.
        mkdir "$work/tree"
        (cd "$tree" && cp -r monitor drivers config pyproject.toml README.md LICENSE "$work/tree/")
        "$work/venv/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work" \
            "$work/tree" >&2 || fail "the program can't be built; without a network use --wheels DIR"
        found=$(find "$work" -maxdepth 1 -name 'line_monitor-*.whl')
    else
        [ -d "$wheels" ] || fail "no folder $wheels: make it with deploy/bundle.sh DIR where there is a network"
        found=$(find "$(cd "$wheels" && pwd)" -maxdepth 1 -name 'line_monitor-*.whl')
        [ -n "$found" ] || fail "no line_monitor-*.whl in $wheels: make the folder with deploy/bundle.sh DIR"
        [ "$(wc -l <<<"$found")" = 1 ] || fail "several line_monitor-*.whl in $wheels: leave the one you mean"
    fi
    printf '%s\n' "$found"
}

pip_install() {
    local options=(--quiet --disable-pip-version-check --no-warn-script-location)
    # The machine's own pip settings must not make pip use a network.
    if [ -n "$wheels" ]; then options+=(--isolated --no-index --find-links "$wheels"); fi
    "$fresh/bin/python" -m pip install "${options[@]}" "$@"
}

# Makes a new environment; the one in use stays until the new one is complete.
install_program() {
    local python wheel wanted current version base
    python=$(find_python)
    base=$("$python" -c 'import os, sys; print(os.path.realpath(sys.base_prefix))')
    case $base/ in
        /root/* | /home/*) fail "$python lives in $base, which the service may not read: set --python /usr/bin/python3" ;;
    esac
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ -z "$wheels" ]; then
        if [ -f "$tree/pyproject.toml" ]; then "$python" -m venv "$work/venv"; else wheels=$tree/wheels; fi
    fi
    wheel=$(own_wheel)
    if [ -n "$wheels" ] && [ -f "$wheels/made-for" ] && [ "$(cat "$wheels/made-for")" != "$version $(uname -m)" ]; then
        fail "$wheels is for Python $(cat "$wheels/made-for"), here it is $version $(uname -m): make it anew, or set --python"
    fi
    # This compares the files in the wheel, not the archive, which holds the time of the build.
    wanted=$({
        "$python" -c 'import sys, zipfile
for item in sorted(zipfile.ZipFile(sys.argv[1]).infolist(), key=lambda item: item.filename):
    print(item.filename, item.CRC)' "$wheel"
        printf '%s\n' "$version" "$extras" "$packages"
    } | sha256sum | cut -c1-12)
    fresh=$root$home/venv-$wanted
    current=$(readlink "$root$home/venv" 2>/dev/null || true)
    if [ "$current" = "venv-$wanted" ] && [ -e "$fresh/.whole" ]; then
        say "the program is up to date"
        return 0
    fi
    rm -rf "$fresh"
    if [ -n "$current" ] && [ "$(cat "$root$home/$current/.whole" 2>/dev/null)" = "$version $packages" ]; then
        # Hard links are fast and need no second copy of torch. pip replaces files and never writes into them.
        say "bringing the program up to date"
        cp -al "$root$home/$current" "$fresh"
        rm -f "$fresh/.whole"
    else
        say "installing the program below $root$home (with torch some minutes and 6 GB)"
        "$python" -m venv "$fresh"
        if [ -n "$packages" ]; then
            [ -d "$packages" ] || fail "no folder $packages; --packages names a site-packages folder"
            # The old setuptools of the new environment would hide the one in the packages folder.
            "$fresh/bin/python" -m pip uninstall --quiet --yes setuptools
            (cd "$packages" && pwd) >"$(echo "$fresh"/lib/python3*/site-packages)/borrowed.pth"
        fi
    fi
    pip_install --no-deps --force-reinstall "$wheel" || fail "pip failed (see above); the old program stays in force"
    pip_install "$wheel${extras:+[$extras]}" || fail "pip failed (see above); the old program stays in force"
    settle "$fresh"
    "$fresh/bin/python" -P -m monitor.cli --help >/dev/null || fail "the new program does not start; the old one stays"
    printf '%s\n' "$version $packages" >"$fresh/.whole"
    ln -sfn "venv-$wanted" "$root$home/venv.new"
    mv -T "$root$home/venv.new" "$root$home/venv"
}

# The scripts name the Python of their installation: the target of the link that is in use, without --root.
settle() {
    local script
    for script in "$1"/bin/*; do
        if [ -L "$script" ] || ! LC_ALL=C grep -qIE "($root$home|$home)/venv-[0-9a-f]{12}" "$script"; then continue; fi
        sed -i -E "s#($root$home|$home)/venv-[0-9a-f]{12}#$home/venv#g" "$script"
    done
}

remove_old_programs() {
    local old current
    current=$(readlink "$root$home/venv")
    for old in "$root$home"/venv-*; do
        if [ -d "$old" ] && [ "$(basename "$old")" != "$current" ]; then rm -rf "$old"; fi
    done
}

# Never changes line.toml. A newer version of the shipped file is put beside it, so that a person can compare
# them.
install_settings() {
    local shipped=$tree/config/line.toml kept=$root$home/line.toml.shipped owner=root:$user
    if [ ! -e "$root$settings/line.toml" ]; then
        install -m 0640 "$shipped" "$root$settings/line.toml"
        if [ -z "$root" ]; then chown "$owner" "$settings/line.toml"; fi
        say "settings: $root$settings/line.toml, to be edited"
    elif ! cmp -s "$shipped" "$kept" && ! cmp -s "$shipped" "$root$settings/line.toml"; then
        install -m 0640 "$shipped" "$root$settings/line.toml.new"
        if [ -z "$root" ]; then chown "$owner" "$settings/line.toml.new"; fi
        say "settings: $root$settings/line.toml is kept; what is new stands in line.toml.new beside it"
    fi
    install -m 0644 "$shipped" "$kept"
}

install_unit() {
    local version verdict
    mkdir -p "$root$units"
    install -m 0644 "$here/$unit" "$root$units/$unit"
    version=$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p' || true)
    rm -rf "$root$units/$unit.d"
    if [ "${version:-0}" -ge 254 ]; then
        mkdir -p "$root$units/$unit.d"
        printf '[Service]\nRestartSec=1\nRestartSteps=5\nRestartMaxDelaySec=30\n' >"$root$units/$unit.d/backoff.conf"
    fi
    if ! command -v systemd-analyze >/dev/null; then
        say "no systemd-analyze here: the unit is not verified"
        return 0
    fi
    # In a staging folder the program is not yet at its final path.
    sed "s#=$home/#=$root$home/#" "$here/$unit" >"$work/$unit"
    verdict=$(systemd-analyze verify --man=no "$work/$unit" 2>&1) ||
        fail "systemd does not accept the unit: $verdict"
    if grep -q "$unit:" <<<"$verdict"; then fail "systemd does not like the unit: $verdict"; fi
    say "unit verified: $root$units/$unit"
}

install_all() {
    local was_active=''
    make_user
    place "$home" 0755 root:root
    # The settings may hold camera passwords.
    place "$settings" 0750 "root:$user"
    place "$data" 0750 "$user:$user"
    install_program
    install_settings
    mkdir -p "$root$(dirname "$command")"
    ln -sfn "$home/venv/bin/line-monitor" "$root$command"
    install_unit
    if managed; then
        systemctl daemon-reload
        systemctl --quiet enable "$unit"
        if systemctl --quiet is-active "$unit"; then was_active=yes; fi
        # The service is restarted at once, because workers that end are started from the new program and do
        # not fit the old supervisor.
        systemctl try-restart "$unit"
    fi
    remove_old_programs
    if [ -n "$root" ]; then
        say "staged below $root"
    elif [ -n "$was_active" ]; then
        say "line-monitor runs again"
    else
        say "next: edit $settings/line.toml, then: line-monitor check; systemctl start line-monitor"
    fi
}

uninstall_all() {
    if managed && systemctl cat "$unit" >/dev/null 2>&1; then
        systemctl --quiet disable --now "$unit"
    fi
    # Only an unchanged template is deleted; every other file there belongs to the user.
    if cmp -s "$root$settings/line.toml" "$root$home/line.toml.shipped"; then rm -f "$root$settings/line.toml"; fi
    rm -f "$root$settings/line.toml.new"
    if [ "$(readlink "$root$command" 2>/dev/null)" = "$home/venv/bin/line-monitor" ]; then rm -f "$root$command"; fi
    rm -rf "$root$home" "$root$cache" "$root$runtime" "$root$units/$unit" "$root$units/$unit.d"
    if [ -n "$purge" ]; then rm -rf "$root$settings" "$root$data"; fi
    local left
    for left in "$settings" "$data" "$units" "$(dirname "$units")"; do
        rmdir "$root$left" 2>/dev/null || true
    done
    if managed; then systemctl daemon-reload; fi
    if [ -z "$root" ] && [ ! -e "$settings" ] && [ ! -e "$data" ] && getent passwd "$user" >/dev/null; then
        userdel "$user"
    fi
    for left in "$settings" "$data"; do
        if [ -e "$root$left" ]; then say "kept: $root$left"; fi
    done
    say "line-monitor is removed"
}

if [ -n "$uninstall" ]; then uninstall_all; else install_all; fi
