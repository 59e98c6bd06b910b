#!/bin/bash
# Workers for the scheduler of dask.sh, each a job of its own, in a partition whose jobs others may
# preempt: a worker that was requeued joins again, and Dask repeats what was lost with it.
#SBATCH --job-name=dask-worker --array=0-3 --ntasks=1 --cpus-per-task=8 --hint=nomultithread
#SBATCH --partition=spare --requeue --time=2:00:00
#SBATCH --k8s-import=dask-scheduler

export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 BLOSC_NOLOCK=1
exec dask worker "$DASK_SCHEDULER_ADDRESS" --nthreads 8 --no-nanny --no-dashboard
