#!/bin/sh
# Gets kube-apiserver, etcd and kubectl, which the lab can run on in place of its own API server, and prints the folder
# that they are in.
#
#     tools/kube-assets/get.sh [--kube-assets DIR]
#
# A folder that is given (--kube-assets, or KUBEBUILDER_ASSETS) is only looked into. Otherwise they are built with Go from
# the versions that go.mod beside this file pins, once, into $MESHPROOF_CACHE or the XDG cache folder.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

PROGRAMS='kube-apiserver etcd kubectl'
KUBERNETES=k8s.io/kubernetes
ETCD=go.etcd.io/etcd/server/v3
STATIC='-trimpath -mod=readonly'

say() { printf 'kube-assets: %s\n' "$*" >&2; }

missing_in() {
    for program in $PROGRAMS; do
        [ -x "$1/$program" ] || printf ' %s' "$program"
    done
}

version_of() { (cd "$here" && go list -m -f '{{.Version}}' "$1"); }

# The only wish that Go can have here is a newer Go; GOTOOLCHAIN=local makes it say so instead of fetching one.
build() {
    version=$(version_of "$KUBERNETES")
    minor=${version#v1.}
    stamp=k8s.io/component-base/version
    flags="-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%%.*}"
    flags="$flags -X $stamp.gitCommit= -X $stamp.gitTreeState=archive"
    # shellcheck disable=SC2086 # several options
    (
        cd "$here"
        go build $STATIC -ldflags "$flags" -o "$1/" "$KUBERNETES/cmd/kube-apiserver" "$KUBERNETES/cmd/kubectl"
        go build $STATIC -ldflags '-s -w' -o "$1/etcd" "$ETCD"
    )
}

given=${KUBEBUILDER_ASSETS-}
if [ "${1-}" = --kube-assets ]; then
    given=${2?--kube-assets needs a folder}
elif [ $# -gt 0 ]; then
    say "usage: tools/kube-assets/get.sh [--kube-assets DIR]"
    exit 2
fi

if [ -n "$given" ]; then
    missing=$(missing_in "$given")
    if [ -n "$missing" ]; then
        say "$given lacks$missing"
        exit 1
    fi
    say "nothing to do: they are in the folder that was given"
    echo "$given"
    exit
fi

if ! command -v go >/dev/null 2>&1; then
    wanted=$(sed -n 's/^\tk8s.io\/kubernetes v\(1\.[0-9]*\).*/\1/p' "$here/go.mod")
    say "there is no Go here to build them with. Install Go, or get them with setup-envtest (of controller-runtime):"
    say "    export KUBEBUILDER_ASSETS=\"\$(setup-envtest use $wanted -p path)\""
    exit 1
fi

umask 022
export CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off
cache=${MESHPROOF_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/meshproof}/kube-assets
folder=$cache/$(version_of "$KUBERNETES")-etcd-$(version_of "$ETCD")
mkdir -p "$cache"
# One build at a time; whoever waited finds what the other has built.
exec 9>"$cache/.lock"
flock 9
if [ -n "$(missing_in "$folder")" ]; then
    say "building $(basename "$folder") with $(go env GOVERSION); this takes some minutes, once"
    start=$(date +%s)
    draft=$(mktemp -d "$cache/.draft.XXXXXX")
    trap 'rm -rf "$draft"' EXIT
    build "$draft"
    chmod 755 "$draft"
    rm -rf "$folder"
    mv "$draft" "$folder"
    say "built in $(($(date +%s) - start)) s:"
    (cd "$folder" && du -m $PROGRAMS | sed 's/^\([0-9]*\)\t/    \1 MB  /' >&2)
fi
say "use them with"
say "    export KUBEBUILDER_ASSETS=$folder"
echo "$folder"
