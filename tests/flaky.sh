#!/usr/bin/env bash
# flaky.sh N WHAT...: runs `make test-WHAT` N times each (unit, c, api, faults, e2e) and prints a
# table of the tests that failed: how often, and the first log that has it. Logs are kept in
# build/flaky/. Its status is 1 if any run failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

runs=$1
shift
logs=build/flaky
rm -rf "$logs"
mkdir -p "$logs"
export GOFLAGS="${GOFLAGS:-} -count=1" # a cached result shows nothing

# failures LOG: the names of the tests and subtests that failed. A panic, a test that ran out of
# time and a failed build name none.
failures() {
	sed -n 's/^ *--- FAIL: \([^ ]*\) .*/\1/p' "$1" | sort -u
}

for what in "$@"; do
	for ((i = 1; i <= runs; i++)); do
		log=$logs/$what.$i.log
		start=$SECONDS
		if make --no-print-directory "test-$what" >"$log" 2>&1; then
			echo "test-$what $i/$runs: ok ($((SECONDS - start)) s)"
			continue
		fi
		echo "test-$what $i/$runs: FAILED ($((SECONDS - start)) s): $log"
		names=$(failures "$log")
		while read -r name; do
			printf '%s\t%s\n' "$name" "$log" >>"$logs/failures"
		done <<<"${names:-(no test named: see the log)}"
	done
done

if [ ! -e "$logs/failures" ]; then
	echo "no failure in $runs runs of: $*"
	exit 0
fi
echo
awk -F'\t' '
	BEGIN { printf "%-60s %5s  %s\n", "TEST", "COUNT", "FIRST LOG" }
	!count[$1]++ { first[$1] = $2; order[++n] = $1 }
	END { for (i = 1; i <= n; i++) printf "%-60s %5d  %s\n", order[i], count[order[i]], first[order[i]] }' "$logs/failures"
exit 1
