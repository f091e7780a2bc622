#!/bin/bash
# A training on two machines of a Slurm cluster, from this project's folder on a file system that
# all of them share:
#
#     sbatch deploy/train-slurm.sh
#
# One task a node, which takes all of the node's GPUs (without any, leave out --gpus-per-node). The
# tasks find each other by Slurm's variables, on ports above 20000, by the job's number.
#SBATCH --job-name=train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=24:00:00
# Before the time is over, SIGTERM has the run save its state, and end with 130.
#SBATCH --signal=TERM@120
# After a preemption or a node's failure the job starts anew, and goes on from the last checkpoint.
#SBATCH --requeue
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
set -u
unset TF_CONFIG # it would go before Slurm's variables

# Workers that lose another, or are told to save, end by themselves: srun need not end them.
srun --kill-on-bad-exit=0 --label --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
  .venv/bin/python -m tasks.text_classification train \
  --data.train reviews.csv \
  --train.strategy multi_worker \
  --run.dir runs/reviews \
  --export.dir saved_models/reviews
code=$?

# Slurm starts a job anew only if a node was at fault. So does this if a worker died or the time is
# over, but not after a mistake in the command or the data (2). scancel ends this script, too.
# A loss that is not finite ends with 1 as well: if the log says so, cancel, and mend that first.
if [ "$code" -ne 0 ] && [ "$code" -ne 2 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 20 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
