#!/usr/bin/env bash
# slurm-image.sh [RELEASE|DIRECTORY]: makes the image with a Slurm, and prints its tag: of a
# Debian release (bookworm, trixie, forky), or the one in DIRECTORY, an absolute path: Slurm's
# --prefix, or a tree with what "make install DESTDIR=" or packages ("dpkg -x", "rpm2cpio") put
# below /. Such a Slurm runs on SLURM_BASE (default: bookworm), with SLURM_LIBRARIES, the packages
# of the libraries that it was linked with. Its etc is not taken: it gets the test cluster's
# configuration.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

release=${1:-$SLURM_RELEASE}
definition=$here/slurm-image

# contents DIRECTORY: what tells two builds in it apart.
contents() {
	find "$1" -type f -printf '%P %s %T@\n' | sort
	echo "${SLURM_BASE:-} ${SLURM_LIBRARIES:-}"
}

# with_packages NAME BASE [PACKAGES]: the image of the definition.
with_packages() {
	local log=$CACHE/slurm-image-$1.log
	docker build --force-rm --build-arg BASE="$2" ${3:+--build-arg PACKAGES="$3"} --tag "$tag" "$definition" >"$log" 2>&1 ||
		die "cannot make the Slurm image. Look at: $log"
}

# prefix_of DIRECTORY: Slurm's --prefix, as it is in the image.
prefix_of() {
	local found
	[ ! -x "$1/sbin/slurmctld" ] || { echo "$1"; return; }
	found=$(cd "$1" && find . \( -path '*/sbin/slurmctld' -o -path '*/sbin/slurmctld-wlm' \) | cut -c2-)
	[ "$(wc -w <<<"$found")" = 1 ] || die "$1 has no sbin/slurmctld, or several below it: ${found:-none}"
	echo "${found%/sbin/*}"
}

# with_directory NAME: adds the Slurm in $release to what is in $tag.
with_directory() {
	local log=$CACHE/slurm-image-$1.log context program status=0
	context=$(mktemp -d "$CACHE/slurm-image.XXXXXX")
	mkdir "$context/slurm"
	if [ "$prefix" = "$release" ]; then
		mkdir -p "$context/slurm$prefix"
		cp -r "$release/." "$context/slurm$prefix"
	else
		cp -r "$release/." "$context/slurm"
	fi
	for program in "$context/slurm$prefix"/sbin/*-wlm; do # as Debian's packages do when they are installed
		[ ! -e "$program" ] || ln -s "${program##*/}" "${program%-wlm}"
	done
	cat >"$context/Dockerfile" <<-END
		FROM $tag
		COPY slurm /tmp/slurm
		RUN rm -rf /tmp/slurm/etc /tmp/slurm$prefix/etc \
		 && tar -C /tmp/slurm -c . | tar -C / -x --no-same-owner --no-overwrite-dir --keep-directory-symlink \
		 && if [ $prefix != /usr ]; then ln -s /etc/slurm $prefix/etc && ln -s $prefix/bin/* /usr/bin/ && ln -s $prefix/sbin/* /usr/sbin/; fi \
		 && ldconfig && useradd --system --shell /usr/sbin/nologin --no-create-home slurm
		RUN ! find /tmp/slurm \( -path '*/bin/*' -o -path '*/sbin/*' -o -name '*.so' \) -type f -printf '/%P\n' | xargs ldd 2>/dev/null | grep 'not found'; \
		 status=\$?; rm -rf /tmp/slurm; exit \$status
	END
	docker build --force-rm --tag "$tag" "$context" >"$log" 2>&1 || status=1
	rm -rf "$context"
	[ "$status" = 0 ] || { docker rmi "$tag" >/dev/null; die "cannot make the Slurm image: a base with its glibc (SLURM_BASE) or libraries (SLURM_LIBRARIES) may be missing. Look at: $log"; }
}

case $release in
/*)
	prefix=$(prefix_of "$release")
	name=$(basename "$release" | tr -c 'a-z0-9.\n' -)
	tag=slurmk8s-slurm:$name-$({ cat "$definition"/* "${BASH_SOURCE[0]}"; contents "$release"; } | hash_of -)
	;;
*)
	name=$release
	tag=slurmk8s-slurm:$name-$(hash_of "$definition"/*)
	;;
esac
exec {lock}>"$CACHE/slurm-image-$name.lock"
flock "$lock"
if ! has_image "$tag"; then
	say "making $tag" >&2
	case $release in
	/*)
		with_packages "$name" "${SLURM_BASE:-$("$here/base-image.sh" bookworm)}" \
			"${SLURM_LIBRARIES:-liblua5.1-0 liblua5.3-0 liblua5.4-0 libhwloc15 libjson-c5 libyaml-0-2 libdbus-1-3 libmunge2}"
		with_directory "$name"
		;;
	*) with_packages "$name" "$("$here/base-image.sh" "$release")" ;;
	esac
	forget_older "$tag" "slurmk8s-slurm:$name-"
fi
echo "$tag"
