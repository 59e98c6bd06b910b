#!/usr/bin/env bash
# Shows a job for each duty on the test cluster, which must be up: `make demo` sees to that.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

tests/e2e/deploy.sh
exec go run ./tests/demo
