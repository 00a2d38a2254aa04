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
TOOLS='ip:iproute2 nft:nftables bird:bird2 birdc:bird2 ping:iputils-ping dnsmasq:dnsmasq-base pdns_recursor:pdns-recursor
       unshare:util-linux nsenter:util-linux setpriv:util-linux'
REQUIREMENTS=requirements.txt
[ "${1-}" = --dev ] && REQUIREMENTS="$REQUIREMENTS requirements-dev.txt"

# The system tools are in the sbin folders, which an ordinary user's PATH lacks on Debian.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PATH

say() { printf 'setup: %s\n' "$*" >&2; }

have() { command -v "$1" >/dev/null 2>&1; }

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

missing_tools() {
    [ "$(uname -s)" = Linux ] || return 0
    for tool in $TOOLS; do
        have "${tool%%:*}" || echo "${tool##*:}"
    done | sort -u
}

# Debian keeps venv in a package of its own.
missing_venv() {
    if ! has_venv && [ -n "$PYTHON_FOUND" ] && ! can_make_venvs "$PYTHON_FOUND"; then
        echo python3-venv
    fi
}

has_venv() {
    [ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null
}

# How to become root: prints a prefix for the command, or fails where that would need a password nobody can type.
root_prefix() {
    if [ "$(id -u)" = 0 ]; then
        echo env
    elif have sudo && sudo -n true 2>/dev/null; then
        echo sudo -n
    elif have sudo && [ -t 0 ]; then
        echo sudo
    else
        return 1
    fi
}

install_packages() {
    have apt-get && prefix=$(root_prefix) || return 0
    say "installing $* (apt)"
    # shellcheck disable=SC2086 # the prefix is one or two words
    $prefix sh tools/install-packages.sh "$@" || say "apt could not install them"
}

make_venv() {
    if [ -z "$PYTHON_FOUND" ]; then
        say "no Python 3.11 or newer found. Install one (Debian 12: apt-get install python3 python3-venv),"
        say "or name one: make setup PYTHON=/path/to/python3"
        return 1
    fi
    if ! can_make_venvs "$PYTHON_FOUND"; then
        say "$PYTHON_FOUND cannot make virtual environments. On Debian, as root: apt-get install python3-venv"
        say "Or name another: make setup PYTHON=/path/to/python3"
        return 1
    fi
    say "making .venv with $("$PYTHON_FOUND" --version)"
    "$PYTHON_FOUND" -m venv --clear .venv
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

PYTHON_FOUND=
has_venv || PYTHON_FOUND=$(find_python)
well=true

packages="$(missing_tools) $(missing_venv)"
# shellcheck disable=SC2086 # one word for each package
[ "$packages" = " " ] || install_packages $packages

if has_venv || make_venv; then
    install_requirements
else
    well=false
fi

tools=$(missing_tools | tr '\n' ' ')
if [ -n "$tools" ]; then
    well=false
    say "the lab needs tools that are not here, and they could not be installed."
    if have apt-get; then
        say "As root: apt-get update && apt-get install --no-install-recommends $tools"
    else
        say "Install with your package manager what Debian calls: $tools"
    fi
    say "None of them has to run as a service. Without the lab, clusters of your own can be verified:"
    say "  .venv/bin/pytest suites/ -n auto --env FILE"
elif [ "$(uname -s)" != Linux ]; then
    say "the lab needs Linux, and this is $(uname -s): run it in a Linux virtual machine or container."
    say "Clusters of your own can be verified from here: .venv/bin/pytest suites/ -n auto --env FILE"
elif [ "$(uname -m)" != x86_64 ] && ! have etcd && [ ! -x "${KUBEBUILDER_ASSETS-}/etcd" ]; then
    say "labs of the profile azure-cilium, and the database of any lab, need etcd, which pip has for x86-64 only. Put one"
    say "on the PATH (Debian: apt-get install etcd-server), or name its folder by KUBEBUILDER_ASSETS."
fi
$well
