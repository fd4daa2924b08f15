#!/bin/sh
# A stand-in for gitlab-runner: takes the real one's options and configuration, prints its lines,
# and really runs its jobs. No token is ever in an argument.

set -u

# Signals to a process group are for a runner alone, but a shell's helpers would die of them. So the
# process that was started only waits and passes signals on; another one does the work, in a session
# of its own.
front=${STAND_IN_FRONT:-}
# How deep in shells it was started, which this one may have changed.
depth=${STAND_IN_DEPTH-$(tr '\0' '\n' </proc/$$/environ | sed -n 's/^SHLVL=//p')}
unset STAND_IN_FRONT STAND_IN_DEPTH
case "$front: $* " in
  :*" run-single "*)
    trap 'kill -s USR1 "$worker"' INT
    trap 'kill -s TERM "$worker"' TERM
    trap 'kill -s USR2 "$worker"' QUIT
    STAND_IN_FRONT=$$ STAND_IN_DEPTH=$depth setsid "$0" "$@" &
    worker=$!
    wait "$worker"
    code=$?
    # A trap ends the wait; the worker takes its time to end its job.
    while kill -0 "$worker" 2>/dev/null; do
      wait "$worker"
      code=$?
    done
    exit "$code"
    ;;
esac

version=@VERSION@
revision=9e2f1b6c
program=gitlab-runner

# How long it does nothing after a call that was refused or wasn't answered, in seconds. (The real
# one waits for 300 s.)
unhealthy=5

log_format=${LOG_FORMAT:-runner}
scratch='' short='' name=''

# --- What it says. Everything goes to standard error: as descriptor 4, so that the shell's own words
# about its children can go elsewhere.

exec 4>&2

now() {
  date -u '+%Y-%m-%dT%H:%M:%SZ'
}

# say LEVEL MESSAGE [FIELDS-BEFORE] [FIELDS-AFTER]: the fields are JSON, each with a comma behind it.
say() {
  if [ "$log_format" = json ]; then
    printf '{%s"level":"%s","msg":"%s",%s"time":"%s"}\n' \
      "${3:-}" "$1" "$2" "${4:-}" "$(now)" >&4
  else
    printf '%-50s %s\n' "$2" "$(printf '%s' "${3:-}${4:-}" | tr -d '"' | tr ',:' ' =')" >&4
  fi
}

fatal() {
  say fatal "$1"
  exit 1
}

# About the runner, or about its job.
say_of_runner() {
  say "$1" "$2" "${3:-}" "${4:-}\"runner\":\"$short\",\"runner_name\":\"$name\","
}

say_of_job() {
  say "$1" "$2" "${3:-}\"job\":$job," \
    "\"project\":$project_id,\"runner\":\"$short\",\"runner_name\":\"$name\","
}

