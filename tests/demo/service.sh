#!/bin/bash
#SBATCH --job-name=notebook --ntasks=1 --time=5
#SBATCH --k8s-register=notebook:80:8888
sleep 2 # it is not ready before its port answers
printf 'HTTP/1.0 200 OK\r\n\r\nhello from job %s on %s\n' "$SLURM_JOB_ID" "$SLURMD_NODENAME" >page
socat TCP-LISTEN:8888,fork,reuseaddr SYSTEM:"cat page" &
trap 'kill $!' EXIT
echo "pods reach me at $SLURMK8S_SERVICE_NOTEBOOK"
until [ -e visited ]; do sleep 0.1; done
rm visited
