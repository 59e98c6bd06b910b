#!/bin/bash
# A Ray cluster in a job. Pods submit work to ray://ray.NAMESPACE.svc:10001, and have the dashboard
# and the jobs API at http://ray.NAMESPACE.svc:8265.
#SBATCH --job-name=ray --nodes=2 --ntasks-per-node=1 --cpus-per-task=8 --time=4:00:00
#SBATCH --k8s-register=name=ray,port=dashboard:8265,port=client:10001

head=$(hostname)
srun --nodes=1 --ntasks=1 --nodelist="$SLURMD_NODENAME" --cpus-per-task="$SLURM_CPUS_PER_TASK" \
	ray start --head --port=6379 --ray-client-server-port=10001 \
	--dashboard-host=0.0.0.0 --dashboard-port=8265 --num-cpus="$SLURM_CPUS_PER_TASK" --block &
others=$((SLURM_JOB_NUM_NODES - 1))
srun --nodes=$others --ntasks=$others --exclude="$SLURMD_NODENAME" --cpus-per-task="$SLURM_CPUS_PER_TASK" \
	ray start --address="$head:6379" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
wait
