# --- Its life.

stopping='' aborting=''

# The real one's names of the signals.
on_signal() {
  if [ -n "$aborting" ]; then
    say fatal "forced exit: $1"
    rm -rf "$scratch"
    exit 1
  fi
  stopping=yes
  if [ "$1" = quit ]; then
    say warning "Requested quit, waiting for builds to finish"
  else
    aborting=$1
    say warning "Requested exit: $1"
  fi
}

# A runner that was killed does nothing any more, not even for its job.
die_with_front() {
  if ! kill -0 "$front" 2>/dev/null; then
    rm -rf "$scratch"
    exit 1
  fi
}

# Does nothing for so many seconds, or until it has to end at once.
pause() {
  rounds=$(($1 * 10))
  while [ "$rounds" -gt 0 ] && [ -z "$aborting" ]; do
    die_with_front
    sleep 0.1
    rounds=$((rounds - 1))
  done
}

# An exhausted limit or a long wait is the end.
check_end() {
  if [ "$max_builds" -gt 0 ] && [ "$builds_done" -ge "$max_builds" ]; then
    say info "This runner has processed its build limit, so now exiting"
    stopping=yes
  fi
  idle=$(($(date +%s) - last_build))
  if [ "$wait_timeout" -gt 0 ] && [ "$idle" -gt "$wait_timeout" ]; then
    say info "This runner has not received a job in $wait_timeout seconds, so now exiting"
    stopping=yes
  fi
}

process_build() {
  die_with_front
  request_job
  case $code in
    201)
      mv "$scratch/answer" "$scratch/job"
      run_job
      builds_done=$((builds_done + 1))
      last_build=$(date +%s)
      ;;
    204) ;;
    403 | 000)
      if [ "$code" = 403 ]; then
        say_of_runner error "Checking for jobs... forbidden" "" '"status":"403 Forbidden",'
      elif [ -z "$stopping" ]; then
        say_of_runner error "Checking for jobs... error" "" '"status":"couldn'"'"'t execute POST",'
      fi
      if [ -z "$stopping" ]; then
        say info "Runner is not healthy!"
        pause "$unhealthy"
      fi
      ;;
    *)
      say_of_runner warning "Checking for jobs... failed" "" "\"status\":\"$code\","
      pause 1
      ;;
  esac
}

run_single() {
  # As the waiting process passes them on.
  trap 'on_signal interrupt' USR1
  trap 'on_signal terminated' TERM
  trap 'on_signal quit' USR2
  read_options "$@"
  [ -z "$runner" ] || load_config
  [ -n "$url" ] || fatal "Missing URL"
  [ -n "$token" ] || fatal "Missing Token"
  [ -n "$executor" ] || fatal "Missing Executor"
  case $executor in
    docker | shell) ;;
    *) fatal "Unknown executor: $executor" ;;
  esac
  case $shell in
    '' | bash | sh) ;;
    *) fatal "shell \\\"$shell\\\" not found" ;;
  esac
  short=$(printf '%s' "$token" | sed 's/^glrt-\(t[123]_\)\{0,1\}//; s/^glrtr-//' | cut -c 1-9)
  # In its folder, where it can: what a killed one leaves goes with that.
  scratch=$(umask 077 && { mktemp -d "$PWD/.scratch.XXXXXX" 2>/dev/null || mktemp -d; }) || exit 1
  exec 2>"$scratch/errors"
  system_id=r_$(tr -d - </proc/sys/kernel/random/uuid | cut -c 1-12)
  say info "Starting runner for $url with token $short ..."
  builds_done=0 last_build=$(date +%s)
  while [ -z "$stopping" ]; do
    process_build
    check_end
  done
  rm -rf "$scratch"
}

case $(uname -m) in
  aarch64 | arm64) architecture=arm64 ;;
  *) architecture=amd64 ;;
esac

# Its own flags come before the command.
while [ $# -gt 0 ]; do
  case $1 in
    --log-format) log_format=${2:-} && shift ;;
    --log-format=*) log_format=${1#*=} ;;
    --log-level | -l) shift ;;
    --log-level=* | --debug) ;;
    --version | -v)
      printf 'Version:      %s\nGit revision: %s\nOS/Arch:      linux/%s\n' \
        "$version" "$revision" "$architecture"
      exit 0
      ;;
    -*) unknown_flag "${1#-}" ;;
    *) break ;;
  esac
  shift
done

command=${1:-}
[ $# -eq 0 ] || shift
if [ "$log_format" = json ]; then
  printf '{"arch":"%s","level":"info","msg":"Runtime platform","os":"linux","pid":%d,' \
    "$architecture" "${front:-$$}" >&4
  printf '"revision":"%s","time":"%s","version":"%s"}\n' "$revision" "$(now)" "$version" >&4
else
  say info "Runtime platform" "\"arch\":\"$architecture\",\"version\":\"$version\","
fi
case $command in
  run-single) run_single "$@" ;;
  *) fatal "Command $command not found." ;;
esac
