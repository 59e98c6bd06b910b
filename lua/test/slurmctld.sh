#!/bin/bash
# slurmctld.sh: runs in the container of slurm_test.sh, as its only process: munge, and
# slurmctld with job_submit.lua and burst_buffer.lua. No node is there: a job that is accepted is pending.
set -euo pipefail

install -d -m 700 -o munge -g munge /etc/munge /var/lib/munge /var/log/munge
install -d -m 755 -o munge -g munge /run/munge
head -c 1024 /dev/urandom >/etc/munge/munge.key
chown munge: /etc/munge/munge.key
chmod 400 /etc/munge/munge.key
setpriv --reuid munge --regid munge --clear-groups munged --force

install -d -m 755 -o slurm -g slurm /var/log/slurm /run/slurm /var/spool/slurm
install -d -m 755 /etc/slurm
version=$(slurmctld -V | awk '{ print $2 }')
if [ "$(printf '%s\n' 24.05 "$version" | sort -V | head -n1)" = 24.05 ]; then # no older one knows it
	echo CgroupPlugin=disabled >/etc/slurm/cgroup.conf
fi
cat >/etc/slurm/slurm.conf <<'END'
ClusterName=submit
SlurmctldHost=localhost
SlurmUser=slurm
AuthType=auth/munge
CredType=cred/munge
MailProg=/bin/true
StateSaveLocation=/var/spool/slurm
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
PlugStackConfig=/etc/slurm/plugstack.conf
JobSubmitPlugins=lua
BurstBufferType=burst_buffer/lua
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
NodeName=localhost CPUs=4 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES State=UP
END
echo 'required /build/forge.so' >/etc/slurm/plugstack.conf
cp /build/job_submit.lua /build/burst_buffer.lua /build/slurmk8s.toml /etc/slurm/
echo Directive=DW >/etc/slurm/burst_buffer.conf
install -d -m 700 -o slurm -g slurm /var/spool/slurmk8s
install -D /build/slurmk8s /opt/slurmk8s/bin/slurmk8s
install -D /build/slurmk8s_lua.so /opt/slurmk8s/lib/slurmk8s_lua.so
exec setpriv --reuid slurm --regid slurm --init-groups slurmctld -D
