#!/bin/bash
# A notebook in a job. Pods, such as the proxy of a JupyterHub, reach it at
# jupyter.NAMESPACE.svc:8888 on whatever port of the node is free.
#SBATCH --job-name=jupyter --ntasks=1 --cpus-per-task=4 --time=8:00:00
#SBATCH --k8s-register=jupyter:8888:auto

exec jupyter lab --no-browser --ip=0.0.0.0 --port="$SLURMK8S_PORT_JUPYTER" --ServerApp.port_retries=0
