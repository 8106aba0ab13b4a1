#!/bin/bash
# A sampling run on many GPUs, one process a GPU, that goes on by itself after preemption or the end
# of its time.
#
#     sbatch experiments/cluster/slurm.sh CONFIG.yaml runs/NAME
#
#SBATCH --job-name=glassgrok
#SBATCH --nodes=2
#SBATCH --gpus-per-node=4
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
# Two minutes before the end each task is asked to save and stop. Without B: before SIGTERM, which
# would send it to this script alone.
#SBATCH --signal=SIGTERM@120
set -euo pipefail

config=${1:?give a CONFIG.yaml and the folder of the run}
out=${2:?give the folder of the run, on a file system that all nodes share}

if [ -e "$out/config.yaml" ]; then
    run=(glassgrok resume "$out")
else
    run=(glassgrok sample "$config" --out "$out")
fi
# Every task sees all GPUs of its node and takes the one of its own number; Slurm tells glassgrok of
# the other tasks. So no --gpus-per-task here.
code=0
srun --kill-on-bad-exit=1 "${run[@]}" --checkpoint-seconds 300 || code=$?

# 143: stopped while it was still starting. A run that was stopped later exits with 0, as one that is
# finished does. Both are put back, a run that ended with an error is not.
[ "$code" -eq 0 ] || [ "$code" -eq 143 ] || exit "$code"
if ! grep -q '"finished": true' "$out/provenance.json"; then
    scontrol requeue "$SLURM_JOB_ID"
fi
