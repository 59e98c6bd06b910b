#!/usr/bin/env bash
# build.sh [deb] [rpm]: makes the packages that packaging/nfpm/ describes, into build/packages:
# a client package for each of SLURM_RELEASES, one of each other kind. The same sources and
# compilers give the same bytes. "make packages" sets VERSION and SLURM_RELEASES.
#
# PACKAGES=DIR puts them elsewhere. MAINTAINER is who is named in them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
: "${VERSION:?make packages sets it}" "${SLURM_RELEASES:?make packages sets it}"
out=${PACKAGES:-build/packages}
root=build/packaging/$VERSION # what make builds: the paths of the packages and VERSION are in it
log=$root/log
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
MAINTAINER=${MAINTAINER:-slurmk8s maintainers <root@localhost>}
ARCH=$(go env GOARCH)
RELEASE=${RELEASE:-1}
STAGE=$root/stage
export VERSION RELEASE SOURCE_DATE_EPOCH MAINTAINER ARCH STAGE TZ=UTC

formats=("$@")
[ ${#formats[@]} -gt 0 ] || formats=(deb rpm)

build() {
	make --no-print-directory -s B="$root" VERSION="$VERSION" SLURM_RELEASES="$SLURM_RELEASES" \
		BINDIR=/usr/bin LIBDIR=/usr/lib/slurmk8s SHAREDIR=/usr/share/slurmk8s \
		SYSCONFDIR=/etc/slurm STATEDIR=/var/spool/slurmk8s all spank
}

# stage: copies of what is built, without what only a debugger needs, and what is made of it.
stage() {
	local date file
	rm -rf "$STAGE"
	mkdir -p "$STAGE"/{man/man1,man/man5,man/man7,completion,doc/slurmk8s-doc/manifests}
	cp -r "$root/bin" "$root/lib" "$root/etc" "$STAGE/"
	find "$STAGE/lib" -name '*.so' -exec strip --strip-unneeded {} +
	for file in bash zsh fish; do
		"$root/bin/slurmk8s" completion "$file" >"$STAGE/completion/slurmk8s.$file"
	done

	date=$(date -d "@$SOURCE_DATE_EPOCH" +%F)
	go run -tags man ./bridge/cmd/slurmk8s man "$date" "$STAGE/man"
	go run ./packaging/man -config packaging/slurmk8s.toml -date "$date" -out "$STAGE/man"
	sed "s/@DATE@/$date/" packaging/man/slurmk8s.7 >"$STAGE/man/slurmk8s.7"
	for file in "$STAGE"/man/*.[157]; do
		mv "$file" "$STAGE/man/man${file##*.}/"
	done
	gzip -9 --no-name "$STAGE"/man/man?/*

	go run ./packaging/modules -version "$VERSION" -sbom "$STAGE/doc/slurmk8s-doc/slurmk8s.cdx.json" \
		-texts "$STAGE/doc/third-party-licences.txt" ./bridge/cmd/slurmk8s ./goffi
	cp README.md "$STAGE/doc/slurmk8s-doc/"
	cp packaging/manifests/*.yaml "$STAGE/doc/slurmk8s-doc/manifests/"
	[ ! -d docs ] || cp docs/*.md "$STAGE/doc/slurmk8s-doc/"
	find "$STAGE" -type d -exec chmod 755 {} + -o -type f -exec chmod go-w {} +
}

# The newest version of glibc's symbols that the libraries need: the packages then install
# where they run, and nowhere else. To serve older systems, build on the oldest.
glibc() {
	find "$STAGE/lib" -name '*.so' -exec readelf -VW {} + | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1 | cut -d_ -f2
}

# pack FORMAT DESCRIPTION
pack() {
	go run "$nfpm" package --packager "$1" --config "packaging/nfpm/$2.yaml" --target "$out" >>"$log"
}

# after RELEASE: the first version that is of no such release: 24.11 -> 24.12
after() {
	printf '%s.%02d\n' "${1%.*}" "$((10#${1#*.} + 1))"
}

mkdir -p "$root" "$out"
rm -f "$out"/*.deb "$out"/*.rpm
: >"$log"
build
stage
GLIBC=$(glibc)
export GLIBC SLURM SLURM_AFTER
for format in "${formats[@]}"; do
	for description in slurmk8s controller node doc; do
		pack "$format" "$description"
	done
	for SLURM in $SLURM_RELEASES; do
		SLURM_AFTER=$(after "$SLURM")
		pack "$format" client
	done
done
ls "$out"
