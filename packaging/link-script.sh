#!/bin/sh
# link-script.sh OURS SITES: links SITES, the burst_buffer.lua beside slurm.conf, to OURS. A file
# of the site's own is kept; one that does not call OURS is reported.
set -eu
ours=$1 sites=$2
if [ -L "$sites" ] && [ "$(readlink "$sites")" = "$ours" ]; then
	exit
elif [ ! -e "$sites" ] && [ ! -L "$sites" ]; then
	ln -s "$ours" "$sites"
elif ! grep -qsF "$ours" "$sites"; then
	echo "slurmk8s: kept the site's own $sites: call $ours from it, see docs/installation.md"
fi
