#!/usr/bin/env bash
# elf.sh FILE...: reads from each shared object whether packaging/hardening.sh took effect, and
# that it needs no newer glibc than the packages promise. Of libslurmk8s.so the hardening is shown
# for the little C that it has: Go has other guards. Where a machine's own binutils are not for
# FILE's machine, packaging/chroot.sh has some that are.
set -euo pipefail

newest=GLIBC_2.31
failed=0
wrong() {
	echo "not ok - $*" >&2
	failed=1
}

# marked MACHINE FILE PATTERN: has it such an instruction at more functions than the 4 of start files?
marked() {
	[ "$("$1-linux-gnu-objdump" -d --no-show-raw-insn "$2" | grep -Ec "\\s($3)(\\s|$)")" -gt 4 ]
}

# check FILE: every line is one property.
check() {
	local file=$1 dynamic segments symbols name needed
	name=$(basename "$file")
	dynamic=$(readelf -dW "$file")
	segments=$(readelf -lW "$file")
	symbols=$(readelf --dyn-syms -W "$file")
	grep -q GNU_RELRO <<<"$segments" || wrong "$name: no RELRO"
	grep -Eq 'BIND_NOW|Flags:.*NOW' <<<"$dynamic" || wrong "$name: RELRO is not full: symbols are bound late"
	grep -Eq 'GNU_STACK .* RW +0x' <<<"$segments" || wrong "$name: the stack may be executable"
	! grep -Eq 'LOAD .* RWE ' <<<"$segments" || wrong "$name: a segment is writable and executable"
	! grep -q TEXTREL <<<"$dynamic" || wrong "$name: text relocations"
	! grep -Eq 'RPATH|RUNPATH' <<<"$dynamic" || wrong "$name: it has a library path of its own"
	grep -q NODELETE <<<"$dynamic" || wrong "$name: not NODELETE"
	grep -q ' __stack_chk_fail' <<<"$symbols" || wrong "$name: no stack protector"
	grep -Eq ' __[a-z]+_chk' <<<"$(grep -v __stack_chk_fail <<<"$symbols")" || wrong "$name: no fortified call"
	needed=$(readelf -VW "$file" | grep -o 'GLIBC_[0-9.]*' | sort -V | tail -n 1)
	[ "$(printf '%s\n' "$needed" "$newest" | sort -V | tail -n 1)" = "$newest" ] || wrong "$name: needs $needed"
	case $name in # not libslurmk8s.so, which starts programs from Go
	*_lua.so | *_spank.so) grep -q ' WEAK .* posix_spawn_file_actions_addclosefrom_np' <<<"$symbols" || wrong "$name: does not use closefrom where glibc has it" ;;
	esac
	# The instructions, not the file's mark: the start files of Debian's gcc have none.
	case $(readelf -hW "$file" | sed -n 's/ *Machine: *//p') in
	*X86-64*) marked x86_64 "$file" endbr64 || wrong "$name: no control-flow protection" ;;
	AArch64*) marked aarch64 "$file" 'bti|paciasp' || wrong "$name: no branch protection" ;;
	esac
	[ "$failed" = 1 ] || echo "ok - $name is hardened, and needs $needed"
}

[ $# -gt 0 ] || { echo "usage: elf.sh FILE..." >&2; exit 64; }
for file; do check "$file"; done
exit "$failed"
