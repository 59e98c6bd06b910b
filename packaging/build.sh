#!/usr/bin/env bash
# build.sh [deb] [rpm]: makes the packages that packaging/nfpm/ describes, into a directory of
# build/packages for each architecture: a client package for each of SLURM_RELEASES, one of each
# other kind. The same sources and compilers give the same bytes. "make packages" sets VERSION and
# SLURM_RELEASES.
#
# As root on Debian they are built in a Debian bullseye (chroot.sh), for amd64 and arm64, or for
# those of ARCHITECTURES; elsewhere on this system, for this machine and its glibc.
# SYSCONFDIR is where Slurm's configuration is. SLURM_IS_PACKAGED=no leaves out the dependencies on
# packages of Slurm. PACKAGES=DIR puts them elsewhere. MAINTAINER is who is named in them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
: "${VERSION:?make packages sets it}" "${SLURM_RELEASES:?make packages sets it}"
out=${PACKAGES:-build/packages}
root=build/packaging/$VERSION # VERSION and the paths of the packages are in what is built
log=$root/log
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
MAINTAINER=${MAINTAINER:-slurmk8s maintainers <root@localhost>}
RELEASE=${RELEASE:-1}
SYSCONFDIR=${SYSCONFDIR:-/etc/slurm}
STAGE=$root/stage
export VERSION RELEASE SOURCE_DATE_EPOCH MAINTAINER STAGE TZ=UTC

formats=("$@")
[ ${#formats[@]} -gt 0 ] || formats=(deb rpm)

say() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }

# choose_system: where to build, and for which machines.
choose_system() {
	local reason
	if reason=$(packaging/chroot.sh --make); then
		system=bullseye
		read -ra architectures <<<"${ARCHITECTURES:-amd64 arm64}"
	else
		system=host
		architectures=("$(go env GOARCH)")
		say "built on this system, for its glibc: no Debian bullseye to build in ($reason)"
	fi
}

# on_system COMMAND...
on_system() {
	if [ "$system" = bullseye ]; then
		packaging/chroot.sh "$@"
	else
		"$@"
	fi
}

# tool ARCHITECTURE NAME: the name of a tool of gcc or binutils for that machine.
tool() {
	case $system-$1 in
	bullseye-arm64) echo "aarch64-linux-gnu-$2" ;;
	*) echo "$2" ;;
	esac
}

# build ARCHITECTURE
build() {
	on_system make --no-print-directory -s B="$root/$system-$1" GOARCH="$1" CC="$(tool "$1" gcc)" VERSION="$VERSION" \
		SLURM_RELEASES="$SLURM_RELEASES" BINDIR=/usr/bin LIBDIR=/usr/lib/slurmk8s SHAREDIR=/usr/share/slurmk8s \
		SYSCONFDIR="$SYSCONFDIR" STATEDIR=/var/spool/slurmk8s all spank
}

# stage ARCHITECTURE: copies of what is built, without what only a debugger needs.
stage() {
	mkdir -p "$STAGE/$1"
	cp -r "$root/$system-$1"/{bin,lib,etc} "$STAGE/$1/"
	local libraries
	mapfile -t libraries < <(find "$STAGE/$1/lib" -name '*.so')
	on_system "$(tool "$1" strip)" --strip-unneeded "${libraries[@]}"
}

# stage_pages: what is the same for all machines.
stage_pages() {
	local date file program all=$STAGE/all
	program=$root/$system-$(go env GOHOSTARCH)/bin/slurmk8s
	mkdir -p "$all"/{man/man1,man/man5,man/man7,completion,doc/slurmk8s-doc/manifests}
	for file in bash zsh fish; do
		"$program" completion "$file" >"$all/completion/slurmk8s.$file"
	done

	date=$(date -d "@$SOURCE_DATE_EPOCH" +%F)
	go run -tags man ./bridge/cmd/slurmk8s man "$date" "$all/man"
	go run ./packaging/man -config packaging/slurmk8s.toml -date "$date" -out "$all/man"
	sed "s/@DATE@/$date/" packaging/man/slurmk8s.7 >"$all/man/slurmk8s.7"
	for file in "$all"/man/*.[157]; do
		mv "$file" "$all/man/man${file##*.}/"
	done
	gzip -9 --no-name "$all"/man/man?/*

	go run ./packaging/modules -version "$VERSION" -sbom "$all/doc/slurmk8s-doc/slurmk8s.cdx.json" \
		-texts "$all/doc/third-party-licences.txt" ./bridge/cmd/slurmk8s ./goffi
	cp README.md "$all/doc/slurmk8s-doc/"
	cp packaging/manifests/*.yaml "$all/doc/slurmk8s-doc/manifests/"
	[ ! -d docs ] || cp -r docs/*.md docs/examples "$all/doc/slurmk8s-doc/"
}

# stage_descriptions: what nfpm reads and packages bring as it is, for this SYSCONFDIR.
stage_descriptions() {
	cp -r packaging/{nfpm,scripts,systemd,examples,bundles,slurmk8s.toml} "$STAGE/"
	find "$STAGE"/{nfpm,scripts,systemd,examples,bundles,slurmk8s.toml} -type f -exec sed -i "s|/etc/slurm|$SYSCONFDIR|g" {} +
	sed -i "s|packaging/|$STAGE/|" "$STAGE"/nfpm/*
	[ "${SLURM_IS_PACKAGED:-}" != no ] || sed -i '/ # Slurm$/d' "$STAGE"/nfpm/*
}

# glibc ARCHITECTURE: the newest version of glibc that the libraries need: the packages depend on it.
glibc() {
	find "$STAGE/$1/lib" -name '*.so' -exec readelf -VW {} + | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1 | cut -d_ -f2
}

# pack FORMAT DESCRIPTION
pack() {
	go run "$nfpm" package --packager "$1" --config "$STAGE/nfpm/$2.yaml" --target "$out/$ARCH" >>"$log"
}

# after RELEASE: the first version that is of no such release: 24.11 -> 24.12
after() {
	printf '%s.%02d\n' "${1%.*}" "$((10#${1#*.} + 1))"
}

mkdir -p "$root"
rm -rf "$STAGE"
: >"$log"
choose_system
# The modules that the chroot cannot download, since it has no network.
go list -deps ./bridge/cmd/slurmk8s ./goffi >/dev/null
for ARCH in "${architectures[@]}"; do
	say "building for $ARCH"
	build "$ARCH"
	stage "$ARCH"
done
stage_pages
stage_descriptions
find "$STAGE" -type d -exec chmod 755 {} + -o -type f -exec chmod go-w {} +

export ARCH GLIBC SLURM SLURM_AFTER
for ARCH in "${architectures[@]}"; do
	say "packing for $ARCH"
	GLIBC=$(glibc "$ARCH")
	mkdir -p "$out/$ARCH"
	rm -f "$out/$ARCH"/*.deb "$out/$ARCH"/*.rpm
	for format in "${formats[@]}"; do
		for description in slurmk8s controller node doc; do
			pack "$format" "$description"
		done
		for SLURM in $SLURM_RELEASES; do
			SLURM_AFTER=$(after "$SLURM")
			pack "$format" client
		done
	done
	ls "$out/$ARCH"
done
