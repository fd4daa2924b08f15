#!/bin/sh
# What the GitHub Action's one step becomes: the released binary for this machine. Inputs travel in
# the environment (see action.yml); nothing of theirs is ever an argument or a part of a script.
set -eu

fail() {
  echo "::error title=runner-launch::$1"
  exit 2
}

system=$(uname -s)
[ "$system" = Linux ] || fail "this Action runs on Linux only, not on $system: launch from a job with runs-on: ubuntu-latest; what it launches may serve any job"
machine=$(uname -m)
case $machine in
  x86_64 | amd64) machine=x86_64 ;;
  aarch64 | arm64) machine=aarch64 ;;
  *) fail "this Action has binaries for x86_64 and arm64, none for $machine" ;;
esac
mode=${RUNNER_LAUNCH_INPUT_MODE:-launch}
case $mode in
  launch | stop | list | sweep) ;;
  *) fail "the input mode: one of launch, stop, list, sweep" ;;
esac
# This process becomes it, so that a cancelled job's signal reaches it at once.
exec "$GITHUB_ACTION_PATH/dist/runner-launch-linux-$machine" "$mode"
