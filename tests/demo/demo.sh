#!/usr/bin/env bash
# The demo, on the cluster that `make cluster` brought up.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

tests/e2e/deploy.sh
exec go run ./tests/demo
