#!/bin/bash
# Dask in a job: the scheduler and a notebook, and four workers with eight threads each. For pods
# they are the Services dask-scheduler and dask-jupyter, with the ports of Dask's Helm chart: a
# client that was written for the chart needs no change. dask-workers.sh adds workers.
#SBATCH --job-name=dask --ntasks=1 --cpus-per-task=4 --time=2:00:00
#SBATCH --k8s-register=name=dask-scheduler,port=dask-scheduler:8786,port=dask-webui:80:8787;name=dask-jupyter,port=80:8888
#SBATCH hetjob
#SBATCH --ntasks=4 --cpus-per-task=8 --hint=nomultithread

export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 BLOSC_NOLOCK=1
dask scheduler --port 8786 --dashboard-address :8787 &
jupyter lab --no-browser --ip=0.0.0.0 --port=8888 --ServerApp.port_retries=0 &
srun --het-group=1 --cpus-per-task=8 \
	dask worker "$(hostname):8786" --nthreads 8 --no-nanny --no-dashboard &
wait
