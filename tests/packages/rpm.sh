#!/usr/bin/env bash
# rpm.sh: what can be seen of the rpms without a distribution that has rpm: their files and
# dependencies, and that they go into an empty root and out of it again, scripts included. Not
# that they go with the Slurm of Red Hat or SUSE, nor with their systemd and SELinux.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../cluster/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"
cd "$top"
: "${VERSION:?make test-packages sets it}" "${SLURM_RELEASES:?make test-packages sets it}"

container=$CLUSTER-packages-rpm
fail() { echo "not ok - rpm: line ${BASH_LINENO[0]}: $*"; exit 1; }
root() { docker exec "$container" "$@"; }

# A Debian with rpm's own tool, without any Slurm.
image() {
	local base tag
	base=$(tests/cluster/base-image.sh bookworm)
	tag=slurmk8s-rpm:$(echo "$base" | hash_of -)
	has_image "$tag" || printf 'FROM %s\nRUN apt-get update && apt-get install -y --no-install-recommends rpm\n' "$base" |
		docker build --force-rm --tag "$tag" - >"$state/rpm-image.log" 2>&1 ||
		die "cannot make an image with rpm. Look at: $state/rpm-image.log"
	echo "$tag"
}

# stand_in NAME VERSION [PROVIDES]: makes an rpm of that name without files in /stand-in.
stand_in() {
	printf '%s\n' "Name: $1" "Version: $2" "Release: 1" "Summary: x" "License: x" "BuildArch: noarch" ${3:+"Provides: $3"} \
		%description x %files |
		docker exec --interactive "$container" sh -c "mkdir -p /stand-in; cat >/tmp/x.spec; rpmbuild -bb --quiet --define '_rpmdir /tmp/rpms' --define '_build_name_fmt %%{NAME}.rpm' /tmp/x.spec && mv /tmp/rpms/$1.rpm /stand-in/" >/dev/null
}

# The packages of Slurm that a controller, node and login host in one has of VENDOR.
slurm_of() {
	local vendor=$1 version=$2 release
	release=$(tr . _ <<<"${version%.*}")
	root rm -rf /stand-in
	stand_in glibc 2.31 "/bin/sh, libc.so.6(GLIBC_$needed)(64bit)"
	case $vendor in
	SchedMD)
		stand_in slurm "$version"
		stand_in slurm-slurmctld "$version"
		stand_in slurm-slurmd "$version"
		;;
	OpenHPC)
		stand_in slurm-ohpc "$version"
		stand_in slurm-slurmctld-ohpc "$version"
		stand_in slurm-slurmd-ohpc "$version"
		;;
	SUSE)
		stand_in "slurm_$release" "$version" "slurm = $version"
		stand_in "slurm_$release-node" "$version" "slurm-node = $version"
		;;
	esac
}

# may_install PACKAGE...: beside what /stand-in has.
may_install() {
	root sh -c "cd /packages && rpm -i --test --force-debian --ignorearch /stand-in/*.rpm slurmk8s-$VERSION-1.x86_64.rpm $*" 2>&1
}

started=$(image)
docker rm --force "$container" >/dev/null 2>&1 || true
docker run --detach --init --name "$container" --network none --volume "$top/build/packages/amd64:/packages:ro" "$started" sleep infinity >/dev/null
trap 'docker rm --force "$container" >/dev/null 2>&1' EXIT

root sh -c 'rpm --checksig --nosignature /packages/*.rpm' >/dev/null
needed=$(root sh -c "rpm -qp --requires /packages/slurmk8s-$VERSION-1.x86_64.rpm" | sed -n 's/^libc.so.6(GLIBC_\(.*\))(64bit)$/\1/p')
controller=slurmk8s-controller-$VERSION-1.x86_64.rpm
for vendor in SchedMD OpenHPC SUSE; do
	for slurm in $SLURM_RELEASES; do
		client=slurmk8s-client-$VERSION+slurm$slurm-1.x86_64.rpm
		slurm_of "$vendor" "$slurm.3"
		said=$(may_install "$controller" "$client" "slurmk8s-node-$VERSION-1.noarch.rpm") || fail "$vendor's Slurm $slurm: $said"
		slurm_of "$vendor" 23.11.3
		! said=$(may_install "$client") || fail "the client package for $slurm may be installed beside $vendor's 23.11"
		[[ $said = *"is needed by slurmk8s-client"* ]] || fail "$said"
	done
	slurm_of "$vendor" 20.11.9
	! said=$(may_install "$controller") || fail "the controller's package may be installed beside $vendor's 20.11"
	[[ $said = *"is needed by slurmk8s-controller"* ]] || fail "$said"
	echo "ok - rpm: goes with the names of $vendor's packages of Slurm, of the right release only"
done

before=$(root find / -xdev \( -path /proc -o -path /sys -o -path /root/.rpmdb -o -path /var/lib/rpm \) -prune -o -print | sort)
root useradd --system slurm
# --nodeps: rpm's database knows nothing of this Debian.
root sh -c "rpm -i --force-debian --nodeps /packages/slurmk8s-$VERSION-1.x86_64.rpm /packages/$controller \
	/packages/slurmk8s-client-*+slurm${SLURM_RELEASES%% *}-1.x86_64.rpm /packages/slurmk8s-node-*.rpm /packages/slurmk8s-doc-*.rpm" >/dev/null
[ "$(root slurmk8s --version)" = "slurmk8s $VERSION" ] || fail "$(root slurmk8s --version)"
root rpm -V --nodeps slurmk8s slurmk8s-controller slurmk8s-client slurmk8s-node slurmk8s-doc || fail "rpm -V"
for file in /etc/slurm/slurmk8s.toml /etc/slurm/plugstack.conf.d/slurmk8s.conf; do
	root rpm -qca | grep -xF "$file" >/dev/null || fail "$file is no configuration file"
done
[ "$(root stat -c %U:%a /var/spool/slurmk8s)" = slurm:700 ] || fail "/var/spool/slurmk8s"
[ "$(root readlink /etc/slurm/burst_buffer.lua)" = /usr/share/slurmk8s/burst_buffer.lua ] || fail "burst_buffer.lua is not linked"
[[ $(root slurmk8s bundle list) = *$'\narkouda-exporter '* ]] || fail "the bundles cannot be used"
echo "ok - rpm: installs, with the state directory for SlurmUser"

root rpm -e --nodeps slurmk8s-controller
! root test -L /etc/slurm/burst_buffer.lua || fail "the link to burst_buffer.lua is left"
root sh -c 'echo "-- the site" >/etc/slurm/burst_buffer.lua'
said=$(root sh -c "rpm -i --force-debian --nodeps /packages/$controller")
[ "$(root cat /etc/slurm/burst_buffer.lua)" = "-- the site" ] || fail "the site's own burst_buffer.lua was replaced"
[[ $said = *"kept the site's own /etc/slurm/burst_buffer.lua"* ]] || fail "nobody said that burst_buffer.lua was kept: $said"
root rm /etc/slurm/burst_buffer.lua
echo "ok - rpm: a site's own burst_buffer.lua is kept"

root sh -c 'echo "# ours" >>/etc/slurm/slurmk8s.toml'
root sh -c "rpm -U --force-debian --nodeps --replacepkgs /packages/slurmk8s-$VERSION-1.x86_64.rpm" >/dev/null
root grep -q '^# ours' /etc/slurm/slurmk8s.toml || fail "the administrator's configuration was replaced"
root sh -c "rpm -qa 'slurmk8s*' | xargs rpm -e --nodeps 2>/dev/null" || fail "rpm -e"
root grep -q '^# ours' /etc/slurm/slurmk8s.toml.rpmsave || fail "the administrator's configuration was lost"
root rm -r /etc/slurm # which that file keeps
root rm -r /var/spool/slurmk8s # rpm has no purge
root userdel slurm 2>/dev/null
after=$(root find / -xdev \( -path /proc -o -path /sys -o -path /root/.rpmdb -o -path /var/lib/rpm \) -prune -o -print | sort)
left=$(comm -13 <(echo "$before") <(echo "$after") | grep -v '^/etc/\(passwd\|group\|shadow\|gshadow\|sub[ug]id\)-$' || true)
[ -z "$left" ] || fail "left: $left"
echo "ok - rpm: an update keeps the configuration; removed, nothing is left but that and the state"
