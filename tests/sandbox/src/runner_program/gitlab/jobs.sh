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
export_variables() {
  while IFS= read -r line; do
    [ -z "$line" ] || export "${line?}"
  done <<VARIABLES
$environment
$(sed '1,/^$/d' "$scratch/job" | sed '/^$/,$d')
CI_PROJECT_DIR=$project_dir
CI_BUILDS_DIR=$builds
CI_RUNNER_SHORT_TOKEN=$short
CI_RUNNER_VERSION=$version
CI_RUNNER_EXECUTABLE_ARCH=linux/$architecture
CI_CONCURRENT_ID=0
VARIABLES
}

# Becomes a program of the job: in its folder, in a process group of its own, and with the
# environment that its executor gives.
as_job() {
  if [ "$executor" = docker ]; then
    # A container knows nothing of the machine around it. The rest of the variables goes, too.
    for variable in $(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'); do
      unset "$variable"
    done
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
    export CI_DISPOSABLE_ENVIRONMENT=true
  else
    export CI_SHARED_ENVIRONMENT=true
  fi
  export_variables
  cd "$project_dir" && exec setsid "$@"
}

# What the job is about to see, for the sandbox alone.
tell_sandbox() {
  (as_job cat /proc/self/environ) >"$scratch/environment"
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
  (as_job "$job_shell" -e "$scratch/script") </dev/null >>"$log" 2>&1 &
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
  job_shell=${shell:-$(command -v bash >/dev/null && echo bash || echo sh)}
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

