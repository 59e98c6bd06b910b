#!/usr/bin/env bash
# fuzz.sh [TIME]: every fuzz test of the project for TIME (default 30s) each.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

time=${1:-30s}
grep -rlE '^func Fuzz' --include='*_test.go' . | while read -r file; do
	grep -oE '^func Fuzz[A-Za-z0-9_]*' "$file" | cut -c6- | while read -r name; do
		echo "fuzz: $name, $time"
		# Minimizing an input of a test that reads files would take all the time.
		go test -run '^$' -fuzzminimizetime 20x -fuzz "^$name\$" -fuzztime "$time" "./$(dirname "$file")"
	done
done
