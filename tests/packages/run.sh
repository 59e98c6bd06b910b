#!/usr/bin/env bash
# run.sh [bookworm|trixie|forky ...]: the packages in a clean Debian with its own Slurm, beside
# the test cluster (make cluster): installs, runs jobs, upgrades while a job runs, removes, and
# looks for what is left. Output: one line a behaviour, then "N passed, M failed".
#
# The container shares a worker's network and name, as the test cluster's Slurm nodes do, so
# that its jobs' services have an address that Kubernetes knows. Its Slurm is its own.
# build/packages must have been made (make packages). KEEP=1 leaves the containers.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../cluster/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"
cd "$top"
export KUBECONFIG=$state/kubeconfig
: "${VERSION:?make test-packages sets it}" "${SLURM_RELEASES:?make test-packages sets it}"

node=$CLUSTER-worker
old=$top/build/packages/amd64
new=$top/build/packages-next/amd64 # the same sources under a higher version
next=${VERSION%.*}.$((${VERSION##*.} + 1))
passed=0 failed=0

root() { docker exec "$container" "$@"; }
alice() { docker exec --user alice --workdir /home/alice "$container" "$@"; }
fail() { echo "line ${BASH_LINENO[0]}: $*"; exit 1; }

# behaviour NAME FUNCTION: the function runs in a subshell that ends at its first error; what it
# prints is the reason. Each behaviour builds on those before it, so the first that fails ends
# the release.
behaviour() {
	local reason status
	[ -z "$broken" ] || return 0
	set +e
	reason=$(set -Ee && trap 'echo "line $LINENO: $BASH_COMMAND"' ERR && "$2" 2>&1)
	status=$?
	set -e
	if [ $status = 0 ]; then
		echo "ok - $release: $1"
		passed=$((passed + 1))
	else
		echo "not ok - $release: $1: $reason"
		failed=$((failed + 1))
		broken=1
	fi
}

# eventually COMMAND...: waits longer than the busiest machine needs.
eventually() {
	local end=$((SECONDS + 300))
	until ("$@") >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || fail "in time still not: $*"
		sleep 0.3
	done
}

# packages DIR: those of a host that is controller, node and login in one.
packages() {
	local version
	version=$([ "$1" = /packages-next ] && echo "$next" || echo "$VERSION")
	echo "$1"/slurmk8s_"$version"-1_*.deb "$1"/slurmk8s-controller_"$version"-1_*.deb "$1"/slurmk8s-node_"$version"-1_all.deb \
		"$1/slurmk8s-client_$version+slurm$slurm-1"_*.deb "$1"/slurmk8s-doc_"$version"-1_all.deb
}

# documented COMMAND: the lines of the documentation that begin with it, without comment, for the
# Slurm that runs here: what an administrator types is what is tested.
documented() {
	grep -hE "^ *(sudo )?$1" README.md docs/installation.md | sed -E "s/^ *(sudo )?//; s/ +#.*//; s/slurm[0-9]+\.[0-9]+/slurm${slurm:-}/g"
}

# apt COMMAND...: its output is shown only if it fails.
apt() {
	docker exec --workdir /packages "$container" sh -c "DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes --no-install-recommends $*" >>"$state/packages.log" 2>&1 ||
		fail "apt-get $*: $(tail -n 20 "$state/packages.log")"
}

# files: all files of the container that are not a daemon's or dpkg's own records.
files() {
	root find / -xdev \( -path /proc -o -path /sys -o -path /tmp -o -path /var/log -o -path /var/lib/dpkg \
		-o -path /var/cache -o -path /var/lib/apt -o -path /var/spool/slurm -o -path /var/spool/slurmd \
		-o -path /home -o -path /root -o -path /run/munge -o -path /run/slurm -o -path /run/systemd \) -prune -o -print | sort
}

daemons() { root pgrep -x 'slurmctld|slurmd|munged' | sort; }

# submit SCRIPT OPTIONS...: prints the job's id; its output is in /home/alice/ID.out.
submit() {
	local script=$1
	shift
	printf '#!/bin/bash\n%s\n' "$script" |
		docker exec --interactive --user alice --workdir /home/alice "$container" sbatch --parsable --output '%j.out' "$@"
}

job() { root scontrol show job "$1" -o; }
job_is() { [[ $(job "$1") == *" JobState=$2 "* ]]; }
completes() { eventually job_is "$1" COMPLETED || fail "job $1 did not complete: $(job "$1"; root tail -n 5 /var/log/slurm/slurmctld.log)"; }

# objects JOB: what Kubernetes holds for it.
objects() {
	kubectl get workflows.dataworkflowservices.github.io,services,endpointslices.discovery.k8s.io,leases.coordination.k8s.io \
		--all-namespaces --no-headers --ignore-not-found --selector "slurmk8s.io/cluster=packages${1:+,slurmk8s.io/job-id=$1}" 2>&1
}
# nothing_in_kubernetes JOB; of "" for any job.
nothing_in_kubernetes() { [ -z "$(objects "$1")" ] || fail "left in Kubernetes: $(objects "$1")"; }

wrong_release_is_refused() {
	local other
	for other in $SLURM_RELEASES; do
		[ "$other" != "$slurm" ] || continue
		! (apt install --simulate /packages/slurmk8s_*.deb "/packages/slurmk8s-client_$VERSION+slurm$other-1_*.deb") >/dev/null ||
			fail "the client package for Slurm $other may be installed beside $slurm"
	done
}

installs() {
	local before command
	before=$(daemons)
	: >"$state/packages.log"
	# Controller and node in one, and the pages.
	while read -r command; do
		apt "${command#apt }"
	done < <(documented 'apt install ')
	apt install ./slurmk8s-doc_*.deb
	[ "$(daemons)" = "$before" ] || fail "a daemon was restarted"
	[ "$(root slurmk8s --version)" = "slurmk8s $VERSION" ] || fail "$(root slurmk8s --version)"
	alice srun --immediate=20 true || fail "a job no longer runs"
	grep -q 'slurmk8s setup' "$state/packages.log" || fail "nobody said what to do next: $(cat "$state/packages.log")"
	root srun --help | grep -e --k8s-register >/dev/null || fail "srun has no --k8s-register"
	# shellcheck disable=SC2016 # for the bash in there
	root bash -c '_init_completion() { words=("${COMP_WORDS[@]}") cword=$COMP_CWORD cur=${words[cword]} prev=${words[cword-1]}; }
		. /usr/share/bash-completion/completions/slurmk8s
		COMP_WORDS=(slurmk8s rec) COMP_CWORD=1; __start_slurmk8s; [ "${COMPREPLY[*]}" = reconcile ] &&
		COMP_WORDS=(slurmk8s reconcile --dr) COMP_CWORD=2; __start_slurmk8s; [ "${COMPREPLY[*]}" = --dry-run ]' || fail "completion"
	root test -e /usr/share/zsh/vendor-completions/_slurmk8s -a -e /usr/share/fish/vendor_completions.d/slurmk8s.fish || fail "completion of zsh, fish"
}

units_are_hardened() {
	root sh -c 'systemd-analyze verify --man=no /usr/lib/systemd/system/slurmk8s-*'
	local unit
	for unit in slurmk8s-reconcile.service slurmk8s-node-reconcile.service; do
		root systemd-analyze security --offline=true --threshold=20 "/usr/lib/systemd/system/$unit" # 20: 2.0 of 10
	done
}

has_systemd() { root test -d /run/systemd/system; }

# A Workflow of a job that this Slurm does not know any more goes by itself: by the timer and its
# units as systemd runs them, with all their limits.
timers_reconcile() {
	local lost=699999 version unit
	version=$(kubectl get crd workflows.dataworkflowservices.github.io --output 'jsonpath={.spec.versions[?(@.storage==true)].name}')
	kubectl create --filename - >/dev/null <<-END
		apiVersion: dataworkflowservices.github.io/$version
		kind: Workflow
		metadata:
		  name: bb$lost
		  namespace: slurm
		  labels: {slurmk8s.io/managed-by: slurmk8s, slurmk8s.io/cluster: packages, slurmk8s.io/job-id: "$lost"}
		spec: {desiredState: Proposal, wlmID: packages, jobID: $lost, userID: 1001, groupID: 1001, hurry: false, dwDirectives: []}
	END
	[ -n "$(objects "$lost")" ]
	root systemctl daemon-reload
	for unit in slurmk8s-reconcile slurmk8s-node-reconcile; do
		root systemctl enable --now "$unit.timer"
	done
	eventually nothing_in_kubernetes "$lost"
	# The node's begins up to 20 s after the minute.
	for unit in slurmk8s-reconcile slurmk8s-node-reconcile; do
		eventually ran_well "$unit"
	done
}

ran_well() {
	local seen
	seen=$(root systemctl show --property=Result,ExecMainStartTimestampMonotonic,ExecMainStatus,ConditionResult "$1.service")
	[[ $seen == *Result=success* && $seen == *ExecMainStatus=0* && $seen == *ConditionResult=yes* &&
		$seen != *Monotonic=0* ]] || fail "$1: $seen: $(root journalctl --no-pager --lines 10 --unit "$1")"
}

# What the packages' own words and the README tell an administrator to do.
sets_up() {
	local said
	sed "s|server: .*|server: https://$CLUSTER-control-plane:6443|" "$KUBECONFIG" |
		docker exec --interactive "$container" sh -c 'umask 077; cat >/root/admin.conf'
	docker exec --interactive "$container" sh -c 'cat >>/etc/slurm/slurmk8s.toml' <<-END
		[[services.allow]]
		users = ["alice"]
		namespaces = ["slurm-jobs"]
	END
	# --overwrite: tests/cluster/services.sh has made the same objects already.
	docker exec --workdir /root "$container" sh -c "$(documented 'slurmk8s setup .*--write-slurm-conf' | head -n 1) --overwrite"
	root sh -c "install -m 0600 /root/slurmk8s/nodes/$node/* /etc/slurm/"
	root sh -c 'if command -v systemctl; then systemctl enable slurmk8s-reconcile.timer; else echo "* * * * * slurm slurmk8s reconcile" >/etc/cron.d/slurmk8s; fi'
	root sh -c 'ln -s /usr/share/slurmk8s/job_submit.lua /etc/slurm/job_submit.lua && echo JobSubmitPlugins=lua >>/etc/slurm/slurm.conf'
	root /test/host.sh restart
	# Of warnings there is one only, of a defect of Slurm 22.05.
	said=$(root slurmk8s doctor) || [[ $slurm = 22.05 && $said = *"doctor: 0 failed, 1 warnings"* ]] || fail "$said"
}

# A submission that DWS could not be asked about in time is accepted, and so are others until the breaker
# has rested (30 s).
refuses_what_dws_refuses() {
	local id
	! id=$(submit '#DW jobdw type=nonsense' 2>/dev/null) || { root scancel "$id"; sleep 31; return 1; }
}

runs_a_storage_job() {
	local id
	eventually refuses_what_dws_refuses
	id=$(submit $'#DW jobdw type=xfs capacity=1GB pool=dws name=ps\ntrue')
	completes "$id"
	eventually nothing_in_kubernetes "$id"
}

runs_a_service_job() {
	local id
	id=$(submit $'until [ -e go-$SLURM_JOB_ID ]; do sleep 0.2; done' "--k8s-register=packages-$release:18888")
	eventually kubectl --namespace slurm-jobs get service "packages-$release"
	alice touch "go-$id"
	completes "$id"
	eventually nothing_in_kubernetes "$id"
}

# The job's PreRun was made by the old version; all after it is up to the new one.
upgrades_under_a_job() {
	local id before
	id=$(submit $'#DW jobdw type=xfs capacity=1GB pool=dws name=ps\nuntil [ -e go-$SLURM_JOB_ID ]; do sleep 0.2; done' \
		"--k8s-register=upgrade-$release:18889")
	eventually job_is "$id" RUNNING
	eventually kubectl --namespace slurm-jobs get service "upgrade-$release"
	root sh -c 'echo "# ours" >>/etc/slurm/slurmk8s.toml'
	before=$(daemons)
	apt install "$(packages /packages-next)"
	[ "$(daemons)" = "$before" ] || fail "a daemon was restarted"
	[ "$(root slurmk8s --version)" = "slurmk8s $next" ] || fail "$(root slurmk8s --version)"
	root grep -q '^# ours' /etc/slurm/slurmk8s.toml || fail "the administrator's configuration was replaced"
	job_is "$id" RUNNING || fail "the job did not survive: $(job "$id")"
	kubectl --namespace slurm-jobs get service "upgrade-$release" >/dev/null
	alice touch "go-$id"
	completes "$id"
	eventually nothing_in_kubernetes "$id"
	runs_a_storage_job
	runs_a_service_job
	root setpriv --reuid slurm --regid slurm --init-groups slurmk8s reconcile || fail "reconcile found something"
}

removes() {
	root /test/host.sh unuse
	root /test/host.sh restart
	apt remove "'slurmk8s*'"
	! root systemctl is-active 'slurmk8s-*' >/dev/null 2>&1 || fail "a timer goes on"
	! root test -e /usr/bin/slurmk8s || fail "the program is still there"
	root test -e /etc/slurm/slurmk8s.toml || fail "the configuration went with the packages: that is for purge"
	alice srun --immediate=20 true || fail "Slurm does not work without it"
}

purges() {
	apt purge "'slurmk8s*'"
	root rm -f /etc/cron.d/slurmk8s # the administrator's
	[ "$(files)" = "$files_before" ] || fail "$(diff <(echo "$files_before") <(files))"
	! root dpkg -l 'slurmk8s*' 2>/dev/null | grep -E '^.[^n]' | grep slurmk8s || fail "dpkg still knows it"
	root /test/host.sh restart
	alice srun --immediate=20 true || fail "Slurm does not work without it"
	nothing_in_kubernetes ""
}

all_behaviours() {
	broken=
	behaviour "a client package for another Slurm is refused" wrong_release_is_refused
	behaviour "all packages install beside a Slurm that runs, which goes on" installs
	! root sh -c 'command -v systemd-analyze' >/dev/null || behaviour "the units are valid, and systemd finds little exposed" units_are_hardened
	behaviour "setup and doctor, as the packages tell" sets_up
	! has_systemd || behaviour "systemd's timers reconcile, within the limits of their units" timers_reconcile
	behaviour "a #DW job runs, and a wrong directive is refused" runs_a_storage_job
	behaviour "a --k8s-register job is a Service while it runs" runs_a_service_job
	behaviour "an upgrade under a job loses neither job nor object, and keeps the configuration" upgrades_under_a_job
	behaviour "removed, the configuration stays and Slurm works" removes
	behaviour "purged, nothing is left" purges
}

# can_boot IMAGE: Bookworm's packages of Slurm do not bring systemd, and from 258 on systemd wants
# a host with the second version of cgroups.
can_boot() {
	local version
	version=$(docker run --rm --entrypoint systemctl "$1" --version 2>/dev/null | awk 'NR == 1 { print $2 }') || return 1
	[ "$version" -lt 258 ] || [ "$(stat --file-system --format %T /sys/fs/cgroup)" = cgroup2fs ]
}

# up: a container with Debian's Slurm, which runs before any package of ours is there.
up() {
	local image unit
	image=$("$top/tests/cluster/slurm-image.sh" "$release")
	# Also those that KEEP=1 left: they share one network, and so the ports.
	docker ps --all --quiet --filter "name=^$CLUSTER-packages-" | xargs --no-run-if-empty docker rm --force >/dev/null
	local system=(--init --entrypoint sleep) first=infinity
	if can_boot "$image"; then # it leaves the kernel that all share alone
		system=(--privileged --tmpfs /run --entrypoint /lib/systemd/systemd) first=--unit=basic.target
		for unit in systemd-sysctl systemd-modules-load systemd-remount-fs; do
			system+=(--volume "/dev/null:/etc/systemd/system/$unit.service:ro")
		done
	fi
	# Job ids of its own: Workflows of all clusters are in one namespace, and named after them.
	docker run --detach "${system[@]}" --name "$container" --network "container:$node" --env "FIRST_JOB_ID=$((700000 + RANDOM))" \
		--volume "$old:/packages:ro" --volume "$new:/packages-next:ro" --volume "$top/tests/packages:/test:ro" \
		"$image" "$first" >/dev/null
	[ "$first" = infinity ] || eventually root systemctl is-active basic.target
	root /test/host.sh start
	slurm=$(root slurmctld -V | awk '{ print $2 }')
	slurm=${slurm%.*}
}

down() {
	[ -n "${KEEP:-}" ] || docker rm --force "$container" >/dev/null 2>&1 || true
}

# made_as_documented COMMAND CHECK: what such a command of the documentation makes passes the check.
made_as_documented() {
	local others command
	others=$(mktemp -d)
	command=$(documented "$1")
	PACKAGES=$others ARCHITECTURES=amd64 bash -c "$command" >/dev/null
	"$2" "$others" || fail "$command: made $(ls "$others")"
	rm -r "$others"
	echo "ok - $command"
}

client_packages_of_two_releases() { [ "$(find "$1" -name 'slurmk8s-client*' | wc -l)" = 4 ]; }

# A Slurm under /opt, which no package brought.
for_a_slurm_under_opt() {
	local file
	for file in "$1"/amd64/{slurmk8s_,slurmk8s-controller_,slurmk8s-client_}*.deb; do
		dpkg-deb --ctrl-tarfile "$file" | tar -xO ./control | grep '^Depends:' | grep -vE 'slurm-|slurmctld|slurmd' >/dev/null || return 1
		! dpkg-deb --fsys-tarfile "$file" | tar -t | grep /etc/slurm/ || return 1
	done
	dpkg-deb --fsys-tarfile "$1"/amd64/slurmk8s_*.deb | tar -t | grep /opt/slurm/etc/slurmk8s.toml >/dev/null &&
		dpkg-deb --fsys-tarfile "$1"/amd64/slurmk8s_*.deb | tar -xO ./usr/bin/slurmk8s | grep /opt/slurm/etc >/dev/null
}

[ -n "${NEXT_IS_BUILT:-}" ] || {
	made_as_documented 'make packages SLURM_RELEASES' client_packages_of_two_releases
	made_as_documented 'make packages SYSCONFDIR' for_a_slurm_under_opt
	VERSION=$next PACKAGES=$top/build/packages-next ARCHITECTURES=amd64 packaging/build.sh deb >/dev/null
}
tests/e2e/deploy.sh

releases=("$@")
[ ${#releases[@]} -gt 0 ] || releases=(bookworm trixie forky)
for release in "${releases[@]}"; do
	container=$CLUSTER-packages-$release
	trap down EXIT
	up
	files_before=$(files)
	all_behaviours
	down
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
