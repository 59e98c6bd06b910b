#!/usr/bin/env bash
# Every language's checker, warnings as errors. C is checked by its compiler in
# goffi/test and lua/test, Lua by luacheck in lua/test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

unformatted=$(gofmt -l bridge goffi packaging slurmconf tests)
[ -z "$unformatted" ] || { echo "gofmt -w $unformatted" >&2; exit 1; }
go vet ./...
go vet -tags man ./bridge/cmd/slurmk8s
go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
go run ./packaging/modules ./bridge/cmd/slurmk8s ./goffi
git ls-files -co --exclude-standard -- '*.sh' '.ci/*' 'packaging/scripts/*' tests/cluster/slurm-image/entrypoint tests/cluster/node-image/entrypoint \
	tests/bench/harness/slurm tests/bench/harness/launches spank/test/node spank/test/step_program |
	xargs shellcheck --external-sources
echo "lint: ok"
