# demo.sh and test.sh source this file. It makes a virtual environment with the project in the repository
# root.
# It must never change the system's Python, and it installs again only after a change.

say() { printf '%s\n' "$*" >&2; }

new_enough() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# Finds the first Python that is new enough and can make a virtual environment.
find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if new_enough "$candidate"; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    say "no Python 3.11 or newer with venv found: install one (Debian: apt-get install python3-venv) or set PYTHON"
    return 1
}

make_venv() {
    if .venv/bin/python -m pip --version >/dev/null 2>&1; then
        return 0
    fi
    local python
    python=$(find_python) || return 1
    say "making .venv with $("$python" --version)"
    "$python" -m venv .venv
}

# Prints what an installation depends on: the project's description and its folder.
fingerprint() {
    { pwd -P; cat pyproject.toml; } | sha256sum | cut -d' ' -f1
}

# install_project [EXTRAS]: installs the project in editable mode with the comma-separated extras, unless that
# is done already. An installation with extras also counts as one without.
# Packages come without compiled modules: Python compiles a module when it first imports it, and keeps the result.
# Where the environment forbids that, the result is kept in .venv: else every process would compile torch again,
# which takes seconds.
install_project() {
    if [ -n "${PYTHONDONTWRITEBYTECODE:-}" ]; then
        unset PYTHONDONTWRITEBYTECODE
        export PYTHONPYCACHEPREFIX="${PYTHONPYCACHEPREFIX:-$PWD/.venv/pycache}"
    fi
    local extras=${1:-} wanted stamp
    wanted=$(fingerprint)
    stamp=.venv/.installed${extras:+-$extras}
    if [ -x .venv/bin/line-monitor ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return 0
    fi
    say "installing line-monitor${extras:+ with $extras} into .venv (the first time a minute or more, and 6 GB)"
    # Without --no-compile pip compiles thousands of modules that the program never imports.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
        --editable ".${extras:+[$extras]}"
    printf '%s\n' "$wanted" | tee .venv/.installed >"$stamp"
}
