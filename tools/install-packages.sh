#!/bin/sh
# As root: installs Debian packages without letting any of their services run, now or at the next boot.
#
#     tools/install-packages.sh PACKAGE...
set -eu

GUARD=/usr/sbin/policy-rc.d # what it says decides whether a package may start its service
OURS='made for one installation by meshproof'
BEFORE=$(mktemp)
AFTER=$(mktemp)

# Links that make a service start at boot: systemd's, then those of System V.
enabled() {
    find /etc/systemd/system -type l 2>/dev/null || true
    find /etc/rc[2-5].d -type l -name 'S*' 2>/dev/null || true
}

lift_guard() {
    if grep -qs "$OURS" "$GUARD"; then
        rm -f "$GUARD"
    fi
    rm -f "$BEFORE" "$AFTER"
}

trap lift_guard EXIT
trap 'exit 1' HUP INT TERM

# A guard that is there already says what its owner wants, and stays.
if [ ! -e "$GUARD" ]; then
    printf '#!/bin/sh\n# %s\nexit 101\n' "$OURS" >"$GUARD"
    chmod 755 "$GUARD"
fi

enabled | sort >"$BEFORE"
export DEBIAN_FRONTEND=noninteractive
apt_install() {
    apt-get install --yes --quiet --quiet --no-install-recommends "$@" </dev/null >/dev/null
}
# The package lists may be old or, in a fresh container, not there at all; most often they are neither.
apt_install "$@" 2>/dev/null || { apt-get update --quiet --quiet </dev/null >/dev/null && apt_install "$@"; }
enabled | sort >"$AFTER"

comm -13 "$BEFORE" "$AFTER" | while read -r link; do
    case $link in
    /etc/rc*)
        service=${link##*/S[0-9][0-9]}
        update-rc.d "$service" disable >/dev/null 2>&1 || rm -f "$link"
        ;;
    *)
        # This is all that "systemctl disable" does, and it works where systemd does not run.
        echo "setup: ${link##*/} is not to start at boot" >&2
        rm -f "$link"
        ;;
    esac
done
