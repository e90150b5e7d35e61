#!/bin/sh
# Stages from a shell script, or from any program that can append a line to a file:
#
#     gpucost record -- sh examples/stages.sh
#
# A mark is one JSON object on one line, appended in one write. `gpucost stage NAME -- COMMAND` does the same for a single command.
# Outside a recording the marks go nowhere.
set -eu

# stage NAME COMMAND [ARGS]: run a command (or a function) as a stage; stages inside of it nest.
stage() {
    name=$1
    shift
    id="sh-$$-$(date +%s%N)"
    parent=${GPUCOST_STAGE_ID:+,\"parent\":\"$GPUCOST_STAGE_ID\"}
    file=${GPUCOST_STAGE_FILE:-/dev/null}
    printf '{"event":"start","id":"%s","name":"%s","pid":%d,"time_ns":%s%s}\n' \
        "$id" "$name" "$$" "$(date +%s%N)" "$parent" >>"$file"
    code=0
    (
        export GPUCOST_STAGE_ID="$id"
        "$@"
    ) || code=$?
    printf '{"event":"end","id":"%s","time_ns":%s,"attributes":{"exit_code":%d}}\n' "$id" "$(date +%s%N)" "$code" >>"$file"
    return "$code"
}

evaluate() {
    stage load sleep 0.5
    stage score sleep 1
}

stage prepare sleep 1
stage evaluate evaluate
echo "done"
