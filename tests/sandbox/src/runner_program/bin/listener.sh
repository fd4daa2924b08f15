#!/bin/sh
# Reads the options, then configures, removes or runs the runner.

set -u
cd "${0%/*}/.." || exit 1
. bin/common.sh

command=${1:-run}
[ $# -eq 0 ] || shift

case $command in
  configure)
    flags=" check disableupdate ephemeral no-default-labels replace runasservice unattended "
    values=" labels name pat runnergroup token url username work "
    ;;
  remove)
    flags=" unattended "
    values=" pat token "
    ;;
  run)
    flags=" once "
    values=" jitconfig startuptype "
    ;;
  --version)
    echo "$version"
    exit 0
    ;;
  *)
    flags=" " values=" "
    set -- "$command" "$@"
    command=run
    ;;
esac

# Options also come as variables, which no job gets to see.
input_url=${ACTIONS_RUNNER_INPUT_URL:-}
input_token=${ACTIONS_RUNNER_INPUT_TOKEN:-}
input_name=${ACTIONS_RUNNER_INPUT_NAME:-}
input_labels=${ACTIONS_RUNNER_INPUT_LABELS:-}
input_work=${ACTIONS_RUNNER_INPUT_WORK:-}
input_runnergroup=${ACTIONS_RUNNER_INPUT_RUNNERGROUP:-}
input_jitconfig=${ACTIONS_RUNNER_INPUT_JITCONFIG:-}
input_unattended=${ACTIONS_RUNNER_INPUT_UNATTENDED:-}
input_ephemeral=${ACTIONS_RUNNER_INPUT_EPHEMERAL:-}
input_replace=${ACTIONS_RUNNER_INPUT_REPLACE:-}
input_no_default_labels=
for variable in $(env | sed -n 's/^\(ACTIONS_RUNNER_INPUT_[A-Za-z0-9_]*\)=.*/\1/p'); do
  unset "$variable"
done

unknown=
while [ $# -gt 0 ]; do
  option=${1#--}
  case $1 in
    --version)
      echo "$version"
      exit 0
      ;;
    --*[!a-z-]* | -- | [!-]* | -[!-]*) unknown="$unknown $1" ;;
    *)
      case $flags$values in
        *" $option "*) ;;
        *) unknown="$unknown $option" ;;
      esac
      case $values in
        *" $option "*)
          if [ $# -lt 2 ]; then
            echo "The option --$option wants a value"
            exit 1
          fi
          eval "input_$option=\$2"
          shift
          ;;
        *) eval "input_$(echo "$option" | tr - _)=true" ;;
      esac
      ;;
  esac
  shift
done
if [ -n "$unknown" ]; then
  echo "Unrecognized command-line input arguments for command $command: '${unknown# }'." \
    "For usage refer to: ./config.sh --help"
  exit 1
fi

case $command in
  configure) . bin/configure.sh && configure ;;
  remove) . bin/configure.sh && remove ;;
  run) ;;
esac

# --- Runs the runner.

say_deleted() {
  echo "Failed to create a session. The runner registration has been deleted from the server," \
    "please re-configure."
}

# The configuration holds the files that config.sh would have written.
unpack_jit_config() {
  if ! config=$(printf '%s' "$input_jitconfig" | base64 -d 2>/dev/null); then
    echo "An error occurred: the just-in-time configuration is not Base64"
    exit 1
  fi
  for name in runner credentials; do
    content=$(printf '%s' "$config" | sed -n "s/.*\"\\.$name\":\"\\([^\"]*\\)\".*/\\1/p")
    (umask 077 && printf '%s' "$content" | base64 -d >"$root/.$name")
  done
}

# Variables and a search path that config.sh or a person left for the jobs.
read_environment() {
  if [ -f .env ]; then
    while IFS= read -r line || [ -n "$line" ]; do
      case $line in
        [A-Za-z_]*=*) export "${line?}" ;;
      esac
    done <.env
  fi
  if [ -s .path ]; then
    PATH=$(cat .path)
    export PATH
  fi
}

# In the background and waited for: only so does a trap run at once.
ask() {
  call "$@" >"$scratch/code.$$" &
  wait $!
  code=000
  read -r code <"$scratch/code.$$" || :
}

connect() {
  tries=0
  while [ -z "$stopping" ]; do
    ask POST "session?nonce=$nonce" --max-time 30
    case $code in
      200)
        read -r session <"$answer" || :
        return 0
        ;;
      401 | 404)
        say_deleted
        exit 1
        ;;
      409)
        echo "A session for this runner already exists."
        limit=10
        error=5
        ;;
      *)
        echo "$(now): Runner connect error: HTTP status $code. Retrying until reconnected."
        limit=60
        error=1
        ;;
    esac
    tries=$((tries + 1))
    [ "$tries" -lt "$limit" ] || exit "$error"
    sleep 1
  done
}

start_job() {
  job=$1
  message=$scratch/job.$job
  mv "$answer" "$message"
  job_name=$(sed -n 2p "$message")
  echo "$(now): Running job: $job_name"
  bin/Runner.Worker "$job" "$message" "$work" &
  worker=$!
}

# Waits for the worker, which a signal to this process doesn't shorten.
end_job() {
  while kill -0 "$worker" 2>/dev/null; do
    wait "$worker"
  done
  worker=
  if [ -s "$scratch/result.$job" ]; then
    read -r result <"$scratch/result.$job"
  else
    # It died before it could tell.
    result=Failed
    [ -z "$stopping" ] || result=Canceled
    call POST "job/$job/finish?result=$result" --max-time 10 --retry 3 >/dev/null
  fi
  echo "$(now): Job $job_name completed with result: $result"
}

if [ -n "$input_jitconfig" ]; then
  unpack_jit_config
elif [ ! -f .runner ]; then
  echo "Not configured. Run config.(sh/cmd) to configure the runner."
  exit 1
fi
ephemeral='' work=_work
read_settings
read_environment

stopping='' worker='' session=''
# By this the server knows a repeated request for the same session.
nonce=$(cat /proc/sys/kernel/random/uuid)
trap 'stopping=yes' INT TERM
echo
echo "√ Connected to GitHub"
echo
echo "Current runner version: '$version'"
connect
[ -n "$stopping" ] || echo "$(now): Listening for Jobs"

last=0 kind='' failures=0 exit_code=0
while [ -z "$stopping" ]; do
  ask GET "message?session=$session&last=$last" --max-time 30
  [ -z "$stopping" ] || break
  case $code in
    200)
      failures=0
      read -r last kind about <"$answer" || :
      case $kind in
        job) start_job "$about" ;;
        cancel) [ -z "$worker" ] || kill -TERM "$worker" ;;
        done)
          [ -z "$worker" ] || end_job
          [ -z "$ephemeral" ] || break
          ;;
      esac
      ;;
    204) failures=0 ;;
    401)
      echo "$(now): The runner registration has been deleted from the server."
      exit_code=1
      break
      ;;
    *)
      failures=$((failures + 1))
      [ "$failures" -lt 60 ] || break
      sleep 1
      ;;
  esac
done

[ -z "$stopping" ] || echo "Exiting..."
if [ -n "$worker" ]; then
  kill -TERM "$worker"
  end_job
fi
trap '' INT TERM
call DELETE "session?nonce=$nonce" --max-time 5 >/dev/null
if [ -n "$ephemeral" ] && [ "$kind" = "done" ]; then
  rm -f .credentials .runner
  printf '\n√ Removed .credentials\n√ Removed .runner\n'
fi
exit "$exit_code"
