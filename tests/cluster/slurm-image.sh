#!/usr/bin/env bash
# Makes the image with Slurm of a Debian release (bookworm, trixie, forky), and prints its tag.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

release=${1:-$SLURM_RELEASE}
tag=slurmk8s-slurm:$release-$(hash_of "$here/slurm-image"/*)
exec {lock}>"$CACHE/slurm-image-$release.lock"
flock "$lock"
if ! has_image "$tag"; then
	base=$("$here/base-image.sh" "$release")
	say "making $tag" >&2
	log=$CACHE/slurm-image-$release.log
	docker build --force-rm --build-arg BASE="$base" --tag "$tag" "$here/slurm-image" >"$log" 2>&1 ||
		die "cannot make the Slurm image. Look at: $log"
	forget_older "$tag" "slurmk8s-slurm:$release-"
fi
echo "$tag"
