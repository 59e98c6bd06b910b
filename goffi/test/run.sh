#!/bin/bash
# run.sh [LIBRARY]: tests libslurmk8s.so (LIBRARY, or one built here) and the
# loader; needs root (it changes owners).
# Output: one line a behaviour, then "N passed, M failed".
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$PWD/build/test/goffi
release=${1:-}
testlib=$out/libslurmk8s-test.so
results=$out/results
mkdir -p "$out/stubs"
: >"$results"

# build_library OUTPUT VERSION [go build options]: as the Makefile does.
build_library() {
	local output=$1 version=$2
	shift 2
	CGO_ENABLED=1 go build -buildmode=c-shared -trimpath "$@" -ldflags "-s -w -X main.version=$version \
		-extldflags '-Wl,--version-script=$PWD/goffi/slurmk8s.map'" -o "$output" ./goffi
	rm -f "${output%.so}.h" # cgo's; the header for users is slurmk8s.h
	chmod 755 "$output"
}

# report NAME COMMAND...: one behaviour that a shell command proves; what the
# command prints is the reason when it fails.
report() {
	local name=$1 reason
	shift
	if reason=$("$@" 2>&1); then
		echo "ok - $name${reason:+ ($reason)}"
	else
		echo "not ok - $name: $reason"
	fi
}

exports_only_ours() {
	local symbols
	symbols=$(nm -D --defined-only "$1" | awk '{print $3}' | sort | tr '\n' ' ')
	[ "$symbols" = "slurmk8s_abi slurmk8s_free slurmk8s_hook slurmk8s_strerror slurmk8s_version " ] ||
		{ echo "$symbols"; return 1; }
}

is_hardened() {
	readelf -dW "$1" | grep -q 'BIND_NOW' && readelf -lW "$1" | grep -q GNU_RELRO &&
		readelf -dW "$1" | grep -q NODELETE && ! readelf -SW "$1" | grep -q ' \.symtab'
}

has_no_test_hooks() {
	! grep -q 'testPanic\|this must not be seen' "$1" && grep -q 'this must not be seen' "$testlib"
}

is_small() {
	local kib=$(($(stat -c %s "$1") / 1024))
	echo "$kib KiB"
	[ "$kib" -le 15360 ]
}

header_is_valid() {
	echo '#include "goffi/slurmk8s.h"' | gcc -std=c99 -pedantic -Wall -Wextra -Werror -xc -fsyntax-only -I. - &&
		{ ! command -v g++ >/dev/null || echo '#include "goffi/slurmk8s.h"' | g++ -Wall -Werror -xc++ -fsyntax-only -I. -; }
}

warnings=(-g -Wall -Wextra -Werror -O2)
# shellcheck disable=SC2054 # the comma is gcc's
sanitize=(-g -Wall -Wextra -Werror -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all)

if [ -z "$release" ]; then
	release=$out/libslurmk8s.so
	build_library "$release" 0.0.0
fi
build_library "$testlib" 9.8.7-test -tags slurmk8s_testhooks
gcc "${warnings[@]}" -shared -fPIC -o "$out/stubs/stub.so" goffi/test/stub_library.c
gcc "${warnings[@]}" -shared -fPIC -DABI=2 -o "$out/stubs/abi2.so" goffi/test/stub_library.c
gcc "${warnings[@]}" -shared -fPIC -DINCOMPLETE -o "$out/stubs/incomplete.so" goffi/test/stub_library.c
echo 'int x;' | gcc -shared -fPIC -xc -o "$out/stubs/foreign.so" -
cp goffi/test/run.sh "$out/stubs/text.so"
gcc "${warnings[@]}" -o "$out/test_library" goffi/test/test_library.c goffi/shim/loader.c -ldl -lpthread
gcc "${warnings[@]}" -o "$out/test_loader" goffi/test/test_loader.c goffi/shim/loader.c -ldl
gcc "${sanitize[@]}" -o "$out/test_loader_asan" goffi/test/test_loader.c goffi/shim/loader.c -ldl
gcc "${sanitize[@]}" -shared -fPIC -o "$out/entry_asan.so" goffi/entry.c goffi/test/stub_go.c
gcc "${sanitize[@]}" -o "$out/test_entry_asan" goffi/test/test_entry.c goffi/shim/loader.c -ldl

{
	report "the release library exports only slurmk8s_*" exports_only_ours "$release"
	report "the release library is stripped, NOW, RELRO and NODELETE" is_hardened "$release"
	report "the release library has no test hook" has_no_test_hooks "$release"
	report "the release library is at most 15 MiB" is_small "$release"
	report "slurmk8s.h is valid C99 and C++" header_is_valid
	"$out/test_library" "$testlib" || true
	"$out/test_loader" "$out/stubs" || true
	"$out/test_loader_asan" "$out/stubs" 2>&1 | sed 's/ - loader: / - loader with ASan and UBSan: /' || true
	"$out/test_entry_asan" "$out/entry_asan.so" || true
} 2>&1 | tee "$results"

passed=$(grep -c '^ok - ' "$results" || true)
failed=$(grep -c '^not ok - ' "$results" || true)
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
