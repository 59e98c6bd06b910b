#!/usr/bin/env bash
# load.sh FILE...: loads images, as docker save writes them, into every node of the cluster.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -gt 0 ] || die "usage: load.sh FILE..."
for archive in "$@"; do
	kind load image-archive --name "$CLUSTER" "$archive" >"$state/load.log" 2>&1 || die "cannot load $archive. Look at: $state/load.log"
done
