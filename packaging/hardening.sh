#!/bin/sh
# hardening.sh cflags|ldflags [CC]: the hardening of all C that is shipped, in one place: what
# this compiler knows of it for its machine. tests/packages/elf.sh checks what came of it.
set -eu
what=$1
cc=${2:-cc}

case $what in
cflags)
	# Some compilers define _FORTIFY_SOURCE themselves. Level 3 needs gcc 12; glibc warns below.
	flags="-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection"
	case $("$cc" -dumpmachine) in
	x86_64-*) flags="$flags -fcf-protection=full" ;;
	aarch64-*) flags="$flags -mbranch-protection=standard" ;;
	esac
	;;
ldflags) flags="-Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,-z,separate-code" ;;
*)
	echo "usage: hardening.sh cflags|ldflags [CC]" >&2
	exit 64
	;;
esac

knows() {
	printf '#include <stdio.h>\nint main(void) { return 0; }\n' |
		"$cc" -Werror -O2 -U_FORTIFY_SOURCE "$1" -x c -o /dev/null - 2>/dev/null
}

known=
for flag in $flags; do
	if knows "$flag"; then
		known="$known $flag"
	elif [ "$flag" = -D_FORTIFY_SOURCE=3 ]; then
		known="$known -D_FORTIFY_SOURCE=2"
	fi
done
echo "${known# }"
