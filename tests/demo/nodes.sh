#!/bin/bash
#SBATCH --job-name=simulation --nodes=2 --ntasks-per-node=1 --time=5
#SBATCH --k8s-nodes=reclaim
srun sleep 3
