#!/bin/sh
# Configures the runner.

if [ "$(id -u)" -eq 0 ] && [ -z "${RUNNER_ALLOW_RUNASROOT:-}" ]; then
  echo "Must not run with sudo"
  exit 1
fi

cd "${0%/*}" || exit 1
case ${1:-} in
  remove) exec bin/Runner.Listener "$@" ;;
  *) exec bin/Runner.Listener configure "$@" ;;
esac
