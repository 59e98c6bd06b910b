#!/bin/bash
# A model server in a job, with the API of OpenAI: http://vllm.NAMESPACE.svc:8000/v1 in pods, from
# the moment the model is loaded. Add --gpus=1, and the partition that has them.
#SBATCH --job-name=vllm --ntasks=1 --cpus-per-task=16 --time=24:00:00
#SBATCH --k8s-register=name=vllm,port=8000,ready=http:/health,ready-timeout=30m,app-protocol=http

exec vllm serve "${MODEL:-Qwen/Qwen2.5-7B-Instruct}" --host 0.0.0.0 --port 8000
