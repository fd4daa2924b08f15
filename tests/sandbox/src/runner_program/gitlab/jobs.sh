# --- Its jobs.

# The part of the log that the server doesn't have yet.
send_log() {
  size=$(wc -c <"$log")
  [ "$size" -gt "$sent" ] || return 0
  tail -c +"$((sent + 1))" "$log" | head -c "$((size - sent))" >"$scratch/part"
  with_job_token PATCH "/jobs/$job/trace" --max-time 10 \
    --header "Content-Range: $sent-$((size - 1))" --header 'Content-Type: text/plain' \
    --data-binary "@$scratch/part"
  [ "$code" != 202 ] || sent=$size
  read_job_status
}

uptime() {
  cut -d ' ' -f 1 /proc/uptime
}

in_log() {
  echo "$1" >>"$log"
}

field() {
  sed -n "1,/^\$/s/^$1=//p" "$scratch/job"
}

# The job's variables, and those that the runner adds.
variables() {
  printf '%s\n' "$environment"
  sed '1,/^$/d' "$scratch/job" | sed '/^$/,$d'
  printf '%s\n' "CI_PROJECT_DIR=$project_dir" "CI_BUILDS_DIR=$builds" \
    "CI_RUNNER_SHORT_TOKEN=$short" "CI_RUNNER_VERSION=$version" \
    "CI_RUNNER_EXECUTABLE_ARCH=linux/$architecture" CI_CONCURRENT_ID=0
}

export_variables() {
  while IFS= read -r line; do
    [ -z "$line" ] || export "${line?}"
  done <<VARIABLES
$(variables)
VARIABLES
}

# Becomes a program of a container's job: in its folder, in a process group of its own. A container
# knows nothing of the machine around it. The rest of the variables goes, too.
in_container() {
  for variable in $(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'); do
    unset "$variable"
  done
  export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
  export CI_DISPOSABLE_ENVIRONMENT=true
  export_variables
  cd "$project_dir" && exec setsid "$@"
}

# Makes what it reads a single word of a shell.
quoted() {
  printf "'"
  sed "s/'/'\\\\''/g"
  printf "'\n"
}

# What the shell executor gives to a login shell's standard input: the variables are set after the
# profile was read, the commands get an empty input, and nothing is left over when the shell exits.
# <https://docs.gitlab.com/runner/shells/#shell-profile-loading>
#
# The profile of the machine is not the host's, which would undo the search path: a login shell that
# reads none begins with those that it would read.
commands() {
  root=$(pwd | sed -n 's|^\(.*/instances/[^/]*/root\)/.*|\1|p')
  [ -z "$root" ] || echo "[ ! -r '$root/etc/profile' ] || . '$root/etc/profile'"
  if [ "$job_shell" = bash ]; then
    personal='.bash_profile .bash_login .profile'
  else
    personal=.profile
  fi
  echo "for file in $personal; do if [ -r ~/\$file ]; then . ~/\$file; break; fi; done; unset file"
  echo 'if set -o | grep pipefail >/dev/null; then set -o pipefail; fi; set -o errexit'
  echo 'set +o noclobber'
  printf ': | eval '
  {
    echo 'export CI_SHARED_ENVIRONMENT=true'
    variables | sed -n "s/'/'\\\\''/g; s/^\([A-Za-z_][A-Za-z0-9_]*\)=\(.*\)/export \1='\2'/p"
    printf 'cd '
    printf '%s' "$project_dir" | quoted
    cat
  } | quoted
  echo 'exit 0'
}

# Becomes the shell that reads its commands.
in_shell() {
  # As it was when this program was started.
  unset SHLVL
  [ -z "$depth" ] || export SHLVL="$depth"
  case $job_shell in
    bash) exec setsid bash --login --noprofile ;;
    *) exec setsid "$job_shell" ;;
  esac
}

# What the job is about to see, for the sandbox alone.
tell_sandbox() {
  if [ "$executor" = docker ]; then
    (in_container cat /proc/self/environ) >"$scratch/environment"
  fi
  with_job_token POST "/jobs/$job/environment" --header 'Content-Type: text/plain' \
    --data-binary "@$scratch/environment"
  [ "$executor" = docker ] || return 0
  set --
  while IFS= read -r volume; do
    [ -z "$volume" ] || set -- "$@" --data-urlencode "volumes[]=$volume"
  done <<VOLUMES
$volumes
VOLUMES
  with_job_token POST "/jobs/$job/container" --data-urlencode "image=$image" \
    --data-urlencode "gpus=$gpus" --data-urlencode "runtime=$runtime" \
    --data "privileged=${privileged:-false}" "$@"
}

# The real one asks the daemon. There is none in a sandbox: the client has the say, on an instance
# the one that is installed there.
docker_works() {
  instance=$(pwd | sed -n 's|^\(.*/instances/i-[0-9a-f]*\)/root/.*|\1/bin/|p')
  "${instance}docker" version >/dev/null 2>&1
}

prepare_job() {
  in_log "Running with $program $version ($revision)"
  in_log "  on $name $short, system ID: $system_id"
  in_log "Preparing the \"$executor\" executor"
  if [ "$executor" = docker ]; then
    if [ -z "$image" ]; then
      failure="no image specified and no default configured"
      return 1
    fi
    in_log "Using Docker executor with image $image ..."
    if ! docker_works; then
      failure="Cannot connect to the Docker daemon at unix:///var/run/docker.sock."
      failure="$failure Is the docker daemon running?"
      return 1
    fi
  else
    in_log "Using Shell ($job_shell) executor..."
  fi
  mkdir -p "$project_dir" || return 1
  sed '1,/^$/d' "$scratch/job" | sed '1,/^$/d' >"$scratch/script"
  [ "$executor" = docker ] || prepare_environment
}

# The first of a job's shells has nothing to do but to come and to go.
prepare_environment() {
  in_log "Preparing environment"
  advice="Check https://docs.gitlab.com/runner/shells/#shell-profile-loading for more information"
  if ! command -v "$job_shell" >/dev/null; then
    failure="prepare environment: failed to start process: exec: \"$job_shell\": executable file"
    failure="$failure not found in \$PATH. $advice"
    return 1
  fi
  commands <<COMMANDS >"$scratch/commands"
cat /proc/self/environ >'$scratch/environment'
echo "Running on \$(uname -n)..."
COMMANDS
  (in_shell) <"$scratch/commands" >>"$log" 2>&1
  result=$?
  [ "$result" -ne 0 ] || return 0
  failure="prepare environment: exit status $result. $advice"
  return 1
}

# Asks the job's processes to end; soon after, makes them. (The real one gives them 10 s.)
end_processes() {
  rounds=$((rounds + 1))
  signal=TERM
  [ "$rounds" -lt 40 ] || signal=KILL
  kill -s "$signal" -- "-$process" 2>/dev/null
}

# Runs the script; sets `result`, its exit code.
run_script() {
  if [ "$executor" = docker ]; then
    (in_container sh -e "$scratch/script") </dev/null >>"$log" 2>&1 &
  else
    commands <"$scratch/script" >"$scratch/commands"
    (in_shell) <"$scratch/commands" >>"$log" 2>&1 &
  fi
  process=$!
  rounds=0 beats=0
  while kill -0 "$process" 2>/dev/null; do
    die_with_front
    [ -z "$cancelled$aborting" ] || end_processes
    send_log
    beats=$((beats + 1))
    [ $((beats % 10)) -ne 0 ] || update_job running
    sleep 0.05
  done
  wait "$process"
  result=$?
  # Nothing of its process group outlives a job.
  kill -s KILL -- "-$process" 2>/dev/null
}

run_job() {
  job=$(field id) job_token=$(field token)
  project=$(field project) project_id=$(field project_id)
  say_of_runner info "Checking for jobs... received" "\"job\":$job," \
    "\"repo_url\":\"$(field repo_url)\","
  builds=${builds_dir:-$(pwd)/builds}
  case $builds in
    /*) ;;
    *) builds=$(pwd)/$builds ;;
  esac
  project_dir=$builds/$short/0/$project
  [ "$executor" = shell ] || project_dir=$builds/$project
  # Without a word about it: bash, whether there is one or not.
  job_shell=${shell:-bash}
  log=$scratch/log sent=0 cancelled='' failure='' result=1
  : >"$log"
  began=$(uptime)
  update_job running
  if [ -z "$cancelled" ] && prepare_job; then
    tell_sandbox
    run_script
  fi

  # How it ended: said here, said in the job's log, and only then told to the server.
  level=info reason='' what="Job succeeded"
  if [ -n "$aborting" ]; then
    level=error reason=runner_system_failure
    what="Job failed (system failure): aborted: $aborting"
  elif [ -n "$failure" ]; then
    level=error reason=runner_system_failure
    what="Job failed (system failure): $failure"
  elif [ -n "$cancelled" ]; then
    level=warning reason=script_failure what="Job failed: canceled"
  elif [ "$result" -ne 0 ]; then
    level=warning reason=script_failure what="Job failed: exit status $result"
  fi
  if [ "$level" = info ]; then
    in_log "$what"
  else
    in_log "ERROR: $what"
  fi
  took=$(uptime | awk -v began="$began" '{ printf "%.3f", $1 - began }')
  say_of_job "$level" "$what" "\"duration_s\":$took,"
  finish_job
  if [ -n "$reason" ]; then
    say error "Failed to process build" "\"error\":\"${what#*: }\","
  fi
}

finish_job() {
  tries=0
  while [ "$tries" -lt 20 ]; do
    send_log
    if [ -z "$reason" ]; then
      update_job success
    else
      update_job failed "$reason" "$result"
    fi
    case $code in
      2?? | 4??) break ;;
    esac
    tries=$((tries + 1))
    sleep 0.5
  done
  say_of_runner info "Updating job..." "\"bytesize\":$sent,\"job\":$job,"
  say_of_runner info "Submitting job to coordinator...ok" \
    "\"bytesize\":$sent,\"code\":${code:-0},\"job\":$job,\"job-status\":\"$status\","
}

