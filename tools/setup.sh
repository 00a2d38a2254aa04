#!/bin/sh
# Sets everything up: system tools by apt, Python packages in .venv. Installs what is missing and nothing else, so that
# a second run only looks.
#
#     tools/setup.sh [--dev]      --dev: also what checks and tests this project itself
#
# PYTHON names the interpreter to build .venv with; by default the system's own when it is new enough, since the lab's
# pods run under user ids that cannot read a home folder.
set -eu
cd "$(dirname "$0")/.."

# Command and the Debian package it comes in.
TOOLS='ip:iproute2 nft:nftables bird:bird2 birdc:bird2 ping:iputils-ping dnsmasq:dnsmasq-base
       unshare:util-linux nsenter:util-linux setpriv:util-linux'
REQUIREMENTS=requirements.txt
[ "${1-}" = --dev ] && REQUIREMENTS="$REQUIREMENTS requirements-dev.txt"

# The system tools are in the sbin folders, which an ordinary user's PATH lacks on Debian.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PATH

say() { printf 'setup: %s\n' "$*" >&2; }

have() { command -v "$1" >/dev/null 2>&1; }

missing_packages() {
    [ "$(uname -s)" = Linux ] || return 0
    for tool in $TOOLS; do
        have "${tool%%:*}" || echo "${tool##*:}"
    done | sort -u
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for python in ${PYTHON-} /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if have "$python" && new_enough "$python"; then
            echo "$python"
            return
        fi
    done
}

can_make_venvs() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null
}

# Runs a command as root, or fails without having asked for a password where nobody could type one.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif ! have sudo; then
        return 1
    elif sudo -n true 2>/dev/null; then
        sudo -n "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        return 1
    fi
}

install_packages() {
    have apt-get || return 1
    say "installing $* (apt)"
    as_root sh tools/install-packages.sh "$@"
}

make_venv() {
    python=$(find_python)
    if [ -z "$python" ]; then
        say "no Python 3.11 or newer found. Install one (Debian 12: apt-get install python3 python3-venv)"
        say "or name one: make setup PYTHON=/path/to/python3"
        exit 1
    fi
    if ! can_make_venvs "$python"; then
        # Debian keeps venv in a package of its own.
        install_packages python3-venv || true
        if ! can_make_venvs "$python"; then
            say "$python cannot make virtual environments. As root: apt-get install python3-venv"
            say "or name another: make setup PYTHON=/path/to/python3"
            exit 1
        fi
    fi
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
}

# A copy of each requirements file that was installed lies in .venv, so a look tells whether there is anything to do.
install_requirements() {
    for file in $REQUIREMENTS; do
        if ! cmp -s "$file" ".venv/$file"; then
            say "installing $file (pip)"
            .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input -r "$file"
            cp "$file" ".venv/$file"
        fi
    done
}

packages=$(missing_packages)
# shellcheck disable=SC2086 # one word for each package
[ -z "$packages" ] || install_packages $packages || true

[ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null || make_venv
install_requirements

packages=$(missing_packages | tr '\n' ' ')
if [ -n "$packages" ]; then
    say "the lab needs tools that are not here, and they could not be installed."
    if have apt-get; then
        say "As root: apt-get update && apt-get install --no-install-recommends $packages"
    else
        say "Install with your package manager what Debian calls: $packages"
    fi
    say "None of them has to run as a service. Without the lab, clusters of your own can be verified right away:"
    say "  .venv/bin/pytest suites/ -n auto --env FILE"
    exit 1
fi
if [ "$(uname -s)" != Linux ]; then
    say "the lab needs Linux, and this is $(uname -s): run it in a Linux virtual machine or container."
    say "Clusters of your own can be verified from here: .venv/bin/pytest suites/ -n auto --env FILE"
fi
