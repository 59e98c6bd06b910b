#!/bin/bash
# An Arkouda server in a job: clients in pods reach it at arkouda-on-slurm.arkouda.svc:5555. The
# bundle brings the exporter and the ServiceMonitor that have its metrics in Prometheus.
#SBATCH --job-name=arkouda --ntasks=1 --cpus-per-task=16 --time=10:00:00
#SBATCH --k8s-register=env
#SBATCH --k8s-bundle=arkouda-exporter,server=arkouda-on-slurm,host=arkouda-on-slurm-metrics.arkouda,match=release:kube-stack

export NAMESPACE=arkouda
export EXTERNAL_SERVICE_NAME=arkouda-on-slurm
export EXTERNAL_SERVICE_PORT=5555
export EXTERNAL_SERVICE_TARGET_PORT=5555
export METRICS_SERVICE_NAME=arkouda-on-slurm-metrics
export METRICS_SERVICE_PORT=5556
export METRICS_SERVICE_TARGET_PORT=5556

exec arkouda_server -nl 1 --ServerPort=5555 --daemonTypes=ServerDaemonType.DEFAULT,ServerDaemonType.METRICS
