#!/usr/bin/env bash
# scratch-image.sh TAG BINARY: makes an image that holds one static binary and runs it.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ $# != 2 ] || [ ! -f "$2" ]; then
	die "usage: scratch-image.sh TAG BINARY"
fi
tag=$1
binary=$2
name=$(basename "$binary")
context=$(mktemp -d "$CACHE/image.XXXXXX")
trap 'rm -rf "$context"' EXIT
install -m 755 "$binary" "$context/$name"
sed "s/@NAME@/$name/g" "$here/scratch-image.Dockerfile" >"$context/Dockerfile"
docker build --force-rm --quiet --tag "$tag" "$context" >"$CACHE/scratch-image.log" 2>&1 ||
	die "cannot make the image $tag. Look at: $CACHE/scratch-image.log"
