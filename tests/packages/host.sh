#!/usr/bin/env bash
# host.sh start|restart|use|unuse: in a container of run.sh, a Slurm of one host as Debian's
# packages and an administrator make it, beside a worker of the kind cluster whose network and
# name it shares. Nothing here knows slurmk8s but "use" and "unuse": what its README tells
# administrators to add to Slurm's files, and taking it out again.
set -euo pipefail
name=$(hostname)
version=$(slurmctld -V | awk '{ print $2 }')

# The worker's own Slurm of the test cluster has the usual ports.
configure() {
	install -d -m 700 -o munge -g munge /etc/munge /var/lib/munge /var/log/munge
	install -d -m 755 -o munge -g munge /run/munge
	head -c 1024 /dev/urandom >/etc/munge/munge.key
	chown munge: /etc/munge/munge.key
	chmod 400 /etc/munge/munge.key
	install -d -m 755 -o slurm -g slurm /var/log/slurm /run/slurm /var/spool/slurm
	install -d -m 755 /var/spool/slurmd
	install -d -m 700 -o alice -g alice /home/alice
	# Slurm looks for cgroups even if it needs none, and can be told not to from 24.05 on.
	if [ "$(printf '%s\n' 24.05 "$version" | sort -V | head -n1)" = 24.05 ]; then
		echo CgroupPlugin=disabled >/etc/slurm/cgroup.conf
	fi
	cat >/etc/slurm/slurm.conf <<-END
		ClusterName=packages
		SlurmctldHost=$name(127.0.0.1)
		SlurmctldPort=16817
		SlurmdPort=16818
		SlurmUser=slurm
		AuthType=auth/munge
		CredType=cred/munge
		MailProg=/bin/true
		StateSaveLocation=/var/spool/slurm
		SlurmdSpoolDir=/var/spool/slurmd
		SlurmctldPidFile=/run/slurm/slurmctld.pid
		SlurmdPidFile=/run/slurm/slurmd.pid
		SlurmctldLogFile=/var/log/slurm/slurmctld.log
		SlurmdLogFile=/var/log/slurm/slurmd.log
		PrologFlags=Alloc
		ProctrackType=proctrack/linuxproc
		TaskPlugin=task/none
		PropagateResourceLimits=NONE
		SelectType=select/cons_tres
		SelectTypeParameters=CR_Core
		SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=2
		FirstJobId=$FIRST_JOB_ID
		ReturnToService=2
		SlurmdParameters=config_overrides
		NodeName=$name Sockets=1 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=1000
		PartitionName=main Nodes=ALL Default=YES
	END
}

start() {
	pgrep -x munged >/dev/null || setpriv --reuid munge --regid munge --clear-groups munged --force
	setpriv --reuid slurm --regid slurm --init-groups slurmctld
	slurmd -N "$name"
	for _ in $(seq 1500); do
		[ "$(sinfo -h -o %t 2>/dev/null)" != idle ] || return 0
		sleep 0.2
	done
	echo "host.sh: the node does not become idle: $(sinfo 2>&1; tail -n 5 /var/log/slurm/*.log)" >&2
	return 1
}

# As systemctl restart does: jobs go on.
stop() {
	pkill -x slurmctld || true
	pkill -x slurmd || true
	for _ in $(seq 1500); do
		pgrep -x 'slurmctld|slurmd' >/dev/null || return 0
		sleep 0.1
	done
}

case $1 in
start)
	configure
	start
	;;
restart)
	stop
	start
	;;
use)
	echo BurstBufferType=burst_buffer/lua >>/etc/slurm/slurm.conf
	cp /usr/share/slurmk8s/burst_buffer.conf /etc/slurm/
	;;
unuse)
	sed -i '/^BurstBufferType=/d; /^JobSubmitPlugins=/d' /etc/slurm/slurm.conf
	rm /etc/slurm/burst_buffer.conf /etc/slurm/job_submit.lua
	;;
esac
