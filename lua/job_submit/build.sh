#!/usr/bin/env bash
# build.sh SHAREDIR SYSCONFDIR >job_submit.lua: one file of the parts here, since a site's
# job_submit.lua loads one file, and slurmctld's package.path is not ours.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

echo "-- job_submit.lua of slurmk8s. Made of lua/job_submit/; Lua 5.1 to 5.4. What it does and"
echo "-- how a site's own job_submit.lua calls it is said at submit.lua, below."
for part in toml spec policy; do
	printf '\nlocal %s = (function()\n' "$part"
	cat "$here/$part.lua"
	echo "end)()"
done
echo
sed -e "s|@SHAREDIR@|$1|g; s|@SYSCONFDIR@|$2|g" "$here/submit.lua"
