#!/bin/sh
# build.sh DIRECTORY [RELEASE]: compile the SPANK plugin, for the Slurm whose headers are installed
# or for RELEASE, such as 24.11 or 24.11.5: Slurm loads a plugin only of its own release, but
# needs nothing else of it. CC, CFLAGS, SLURM_INCLUDE (a directory that has slurm/spank.h),
# BINDIR, LIBDIR and SYSCONFDIR are taken from the environment. It makes three files:
#   slurmk8s_spank.so           options, services, the variables of storage
#   slurmk8s_nodes_spank.so     the same and slurm_spank_job_prolog, for nodes=on: where a plugin
#                               has that symbol, Slurm runs a process of its own before each job
#   slurmk8s_noepilog_spank.so  the first without slurm_spank_job_epilog, for which Slurm runs one
#                               after each job
set -eu
here=$(dirname "$0")
hardening=$here/../packaging/hardening.sh
cc=${CC:-cc}
directory=$1
release=${2:-}

set -- -std=gnu11 -fPIC -Wall -Wextra -Werror -fvisibility=hidden "-ffile-prefix-map=$PWD=."
if [ -n "$release" ]; then
	# 24.05.1 -> 24,5,1: a leading zero would be octal.
	numbers=$(echo "$release" | awk -F. '{ printf "%d,%d,%d", $1, $2, $3 }')
	set -- "$@" "-DFOR_SLURM=SLURM_VERSION_NUM($numbers)"
fi
[ -z "${BINDIR:-}" ] || set -- "$@" "-DBINDIR=\"$BINDIR\""
[ -z "${LIBDIR:-}" ] || set -- "$@" "-DLIBDIR=\"$LIBDIR\""
[ -z "${SYSCONFDIR:-}" ] || set -- "$@" "-DSYSCONFDIR=\"$SYSCONFDIR\""
[ -z "${SLURM_INCLUDE:-}" ] || set -- "$@" "-I$SLURM_INCLUDE"

mkdir -p "$directory"
for name in slurmk8s_spank slurmk8s_nodes_spank slurmk8s_noepilog_spank; do
	case $name in
	*_nodes_*) callbacks=-DWITH_PROLOG ;;
	*_noepilog_*) callbacks=-DWITHOUT_EPILOG ;;
	*) callbacks= ;;
	esac
	# Under another name first: processes of Slurm may have the old one mapped.
	# shellcheck disable=SC2086,SC2046 # CFLAGS are words
	"$cc" "$@" $callbacks ${CFLAGS:--O2 -g $("$hardening" cflags "$cc")} -shared -pthread \
		$("$hardening" ldflags "$cc") -Wl,-z,nodelete -Wl,--version-script="$here/slurmk8s_spank.map" \
		-o "$directory/$name.so.new" "$here"/*.c "$here"/../goffi/shim/*.c -ldl
	mv "$directory/$name.so.new" "$directory/$name.so"
done
