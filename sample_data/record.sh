#!/usr/bin/env bash
# Records the runs of this folder anew, on simulated GPUs; about a minute. Run it from the repository's root.
set -euo pipefail
gpucost=${GPUCOST:-.venv/bin/gpucost}
python=${PYTHON:-python3}
runs=sample_data/runs

# An agent at work, from start to end.
"$gpucost" record --runs $runs --name agent --label team=search --gpus sim:h100:2 -- "$python" examples/agent.py

# A pipeline of shell commands that fails at its end, with a price of its own.
"$gpucost" record --runs $runs --name pipeline --gpus sim:l4 --price 0.80 -- sh -c 'sh examples/stages.sh; exit 3' || true

# The same agent, its recorder killed in the middle: nothing is closed, the newest samples are still a journal, and the last line is torn.
"$gpucost" record --runs $runs --name killed --gpus sim:a100:2 -- "$python" examples/agent.py &
recorder=$!
sleep 8
kill -KILL $recorder
wait $recorder 2>/dev/null || true
for segment in $runs/*/host=*/journal/gpu.*.jsonl; do
    printf '[17640000' >>"$segment"
done
sleep 8
