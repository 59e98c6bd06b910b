#!/usr/bin/env bash
# image.sh NAME BINARY: makes an image of one static binary and loads it into the cluster.
# Pods name it NAME:test (or as given, with a tag) and imagePullPolicy: Never.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# = 2 ] || die "usage: image.sh NAME BINARY"
image=$1
[[ $image == *:* ]] || image=$image:test
"$here/scratch-image.sh" "$image" "$2"
archive=$(mktemp "$CACHE/image.XXXXXX.tar")
trap 'rm -f "$archive"' EXIT
docker save -o "$archive" "$image"
"$here/load.sh" "$archive"
