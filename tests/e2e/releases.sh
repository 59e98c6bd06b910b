#!/usr/bin/env bash
# Runs the e2e tests on the newer Slurm releases, and puts bookworm's 22.05 back. Arguments are
# releases (trixie forky) or options of go test:
#   releases.sh                       both, the whole suite: half an hour each
#   releases.sh trixie -run Status    one, some tests
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../cluster/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"
cd "$top"

releases=()
while [ $# -gt 0 ] && [[ $1 != -* ]]; do
	releases+=("$1")
	shift
done
[ ${#releases[@]} -gt 0 ] || releases=(trixie forky)

back() {
	tests/cluster/slurm.sh bookworm up
}
trap back EXIT

failed=()
for release in "${releases[@]}"; do
	say "Slurm of $release"
	tests/cluster/slurm.sh "$release" up
	go test ./tests/e2e/ -count=1 -timeout 90m "$@" || failed+=("$release")
done
[ ${#failed[@]} = 0 ] || die "failed on: ${failed[*]}"
