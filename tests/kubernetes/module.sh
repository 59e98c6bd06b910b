#!/usr/bin/env bash
# Prints a folder with a go.mod that builds the given version of Kubernetes: this one for
# the version named in it, else a copy in the cache with the versions changed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SLURMK8S_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/slurmk8s}
version=$1

if grep -Eq "^(require)?[[:space:]]*k8s.io/kubernetes $version( |$)" "$here/go.mod"; then
	echo "$here"
	exit
fi

module=$cache/kubernetes/$version/module
if [ ! -f "$module/go.sum" ]; then
	staging=v0.${version#v1.}
	mkdir -p "$module"
	{
		printf 'module slurmk8s.test/kubernetes\n\ngo 1.24.0\n\nrequire k8s.io/kubernetes %s\n\n' "$version"
		sed -n '/^tool (/,/^)/p' "$here/go.mod"
		# What is replaced differs from version to version: ask the version itself.
		go mod download -json "k8s.io/kubernetes@$version" | jq -r .GoMod | xargs go mod edit -json |
			jq -r --arg v "$staging" '.Replace[].Old.Path | select(test("sample-(cli-plugin|controller)$") | not) | "replace \(.) => \(.) \($v)"'
	} >"$module/go.mod"
	(cd "$module" && go mod tidy >&2)
fi
echo "$module"
