#!/bin/sh
# Starts the runner and stays until it ends.

if [ "$(id -u)" -eq 0 ] && [ -z "${RUNNER_ALLOW_RUNASROOT:-}" ]; then
  echo "Must not run interactively with sudo"
  exit 1
fi

cd "${0%/*}" || exit 1
if [ -z "${RUNNER_MANUALLY_TRAP_SIG:-}" ]; then
  # As with the real one: SIGTERM to this shell alone ends this shell alone, and an interrupt waits
  # for the listener's end.
  trap : INT
  bin/Runner.Listener run "$@"
  code=$?
else
  trap 'kill -TERM "$listener"' INT TERM
  bin/Runner.Listener run "$@" &
  listener=$!
  wait "$listener"
  code=$?
  # A trap ends the first `wait`; the listener takes its time to end its job.
  while kill -0 "$listener" 2>/dev/null; do
    wait "$listener"
    code=$?
  done
fi

case $code in
  0) echo "Runner listener exit with 0 return code, stop the service, no retry needed." ;;
  1) echo "Runner listener exit with terminated error, stop the service, no retry needed." ;;
  5) echo "Runner listener exit with Session Conflict error, stop the service, no retry needed." ;;
  *) echo "Exiting with unknown error code: $code" ;;
esac
echo "Exiting runner..."
