#!/bin/sh
# Runs one job: JOB MESSAGE-FILE WORK-FOLDER. Ends it when told to by SIGTERM.

set -u
. bin/common.sh
runner_name=''
read_settings
job=$1 message=$2 work=${3:-_work}
cancelled='' sent=0
log=$scratch/log.$job
: >"$log"
trap 'cancelled=yes' TERM

# By this variable the job's processes are known, whatever they have become.
tracking=github_$(cat /proc/sys/kernel/random/uuid)

set_up() {
  while IFS= read -r line; do
    export "${line?}"
  done <<VARIABLES
$(sed 1,2d "$message")
VARIABLES
  case $work in
    /*) ;;
    *) work=$root/$work ;;
  esac
  repository=${GITHUB_REPOSITORY##*/}
  export RUNNER_NAME="$runner_name" RUNNER_OS=Linux RUNNER_ARCH=X64
  [ "$(uname -m)" != aarch64 ] || RUNNER_ARCH=ARM64
  export RUNNER_TEMP="$work/_temp" RUNNER_TOOL_CACHE="$work/_tool"
  export RUNNER_WORKSPACE="$work/$repository" GITHUB_WORKSPACE="$work/$repository/$repository"
  commands=$RUNNER_TEMP/_runner_file_commands
  export GITHUB_ENV="$commands/env" GITHUB_OUTPUT="$commands/output"
  export GITHUB_PATH="$commands/path" GITHUB_STEP_SUMMARY="$commands/summary"
  mkdir -p "$commands" "$RUNNER_TOOL_CACHE" "$GITHUB_WORKSPACE"
  touch "$GITHUB_ENV" "$GITHUB_OUTPUT" "$GITHUB_PATH" "$GITHUB_STEP_SUMMARY"
}

# The part of the log that the server doesn't have yet.
send_output() {
  size=$(wc -c <"$log")
  [ "$size" -gt "$sent" ] || return 0
  part=$scratch/part.$job
  tail -c +"$((sent + 1))" "$log" | head -c "$((size - sent))" >"$part"
  code=$(call POST "job/$job/output?offset=$sent" --max-time 10 --data-binary "@$part")
  [ "$code" != 204 ] || sent=$size
}

# Asks the job's processes to end; soon after, makes them. (The real one gives them 10 s.)
end_processes() {
  rounds=$((${rounds:-0} + 1))
  signal=TERM
  [ "$rounds" -lt 40 ] || signal=KILL
  # shellcheck disable=SC2013  # one process a line, without spaces
  for process in $(grep -lFs "RUNNER_TRACKING_ID=$tracking" /proc/[0-9]*/environ); do
    process=${process#/proc/}
    kill -s "$signal" "${process%/environ}" 2>/dev/null
  done
}

# Becomes a program of the job, in its workspace.
as_job() {
  export RUNNER_TRACKING_ID="$tracking"
  cd "$GITHUB_WORKSPACE" && exec "$@"
}

# step COMMAND…: a part of the job, with its output in the job's log.
step() {
  (as_job "$@") </dev/null >>"$log" 2>&1 &
  process_of_step=$!
  while kill -0 "$process_of_step" 2>/dev/null; do
    [ -z "$cancelled" ] || end_processes
    send_output
    sleep 0.05
  done
  wait "$process_of_step"
}

# The user's own scripts around a job.
hook() {
  [ -n "$1" ] || return 0
  case $1 in
    *.sh) ;;
    *)
      echo "##[error]The hook $1 is no .sh script" >>"$log"
      return 1
      ;;
  esac
  step "$shell" -e "$1"
}

# What the job's script is about to see.
tell_environment() {
  variables=$scratch/environment.$job
  (as_job cat /proc/self/environ) >"$variables"
  call POST "job/$job/environment" --max-time 10 --retry 3 --data-binary "@$variables" >/dev/null
}

get_script() {
  code=$(call GET "job/$job/script" --max-time 10 --retry 3)
  [ "$code" = 200 ] && mv "$answer" "$RUNNER_TEMP/script.sh"
}

run_job() {
  hook "${ACTIONS_RUNNER_HOOK_JOB_STARTED:-}" && [ -z "$cancelled" ] &&
    tell_environment && get_script && step "$shell" -e "$RUNNER_TEMP/script.sh"
}

shell=$(command -v bash || command -v sh)
set_up
result=Failed
if run_job; then
  result=Succeeded
fi
[ -z "$cancelled" ] || result=Canceled
[ "$result" != Canceled ] || echo "##[error]The operation was canceled." >>"$log"
stop=$cancelled cancelled=''
hook "${ACTIONS_RUNNER_HOOK_JOB_COMPLETED:-}" || result=Failed
[ -z "$stop" ] || result=Canceled
# Nothing of a job outlives it.
rounds=40
end_processes

echo "$result" >"$scratch/result.$job"
tries=0
while [ "$tries" -lt 20 ]; do
  send_output
  code=$(call POST "job/$job/finish?result=$result" --max-time 10)
  case $code in
    2?? | 4??) break ;;
  esac
  tries=$((tries + 1))
  sleep 0.5
done
