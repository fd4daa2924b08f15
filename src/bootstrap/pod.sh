# A pod's one container, whatever its image is: what `common.sh` begins. This is the container's main
# process: when it ends, so does the container, and with it whatever still runs there.
# shellcheck shell=sh
# shellcheck disable=SC2154  # the variables are assigned above

umask 022
work=$root/var/lib/runner-launch
program=$work/runner-launch
config=$work/agent.json

is_root() {
  [ "$(id -u)" -eq 0 ]
}

# Whether others than this file's owner can read it. It holds the registration.
is_open() {
  # shellcheck disable=SC2012  # not every image has `stat` or `find`
  case $(ls -lL "$0" 2>/dev/null) in
    ????r* | ???????r*) return 0 ;;
  esac
  return 1
}

# A pod's main process hears of its end by a signal, which is the agent's to answer: it removes the
# runner's record, and has an interrupted job run again. Before there is an agent, the launcher does.
agent=
signalled=no
# shellcheck disable=SC2329  # the traps below call it
pass_on() {
  signalled=yes
  if [ -z "$agent" ]; then
    say "ended while setting up"
    exit "$2"
  fi
  kill -s "$1" "$agent" 2>/dev/null || :
}
trap 'pass_on TERM 143' TERM
trap 'pass_on INT 130' INT
# An image may want another signal for its end than SIGTERM, as GitLab's does: it means the same.
trap 'pass_on TERM 131' QUIT
trap 'pass_on TERM 129' HUP
trap 'pass_on TERM 156' WINCH

# Whatever happens from here on, the container ends at the deadline, unless a ready agent has left its
# mark by then. The Job's own deadline does the same from outside.
#
# What waits to send a signal is gone before the process is that it would be sent to: else another one
# that has its number by then would get it. And what has sent its own is no timer any more: it may be
# days until the end.
late=no
timers=
# shellcheck disable=SC2329  # the trap below calls it
stop_timers() {
  for timer in $timers; do
    kill "$timer" 2>/dev/null || :
  done
  timers=
}
# shellcheck disable=SC2329  # the trap below calls it
give_up() {
  timers=
  if [ -e "$work/ready" ]; then
    signalled=yes
    return 0
  fi
  late=yes
  say "error: the runner wasn't ready after $deadline s"
  if [ -n "$agent" ]; then
    # The agent gives the runner program 20 s, and needs a few more for the record.
    (
      sleep 60
      kill -s KILL "$agent"
    ) >/dev/null 2>&1 &
    timers=$!
  fi
  pass_on TERM 1
}
trap give_up USR1
(
  sleep "$deadline"
  kill -s USR1 "$$"
) >/dev/null 2>&1 &
timers=$!

# Whichever way this ends, the record goes: the launcher may be gone. That is nothing to do for an agent
# which has done it itself, and what is left undone by one that was killed.
# shellcheck disable=SC2329  # the trap below calls it
finish() {
  status=$?
  trap - EXIT
  # There is nobody to pass anything on to any more.
  trap '' TERM INT QUIT HUP WINCH USR1
  stop_timers
  if [ -x "$program" ] && [ -e "$config" ]; then
    "$program" agent release --config "$config" || :
  fi
  exit "$status"
}
trap finish EXIT

# A pod's network may come later than its containers: the first tries may find no name server, and
# curl itself gives up at once there. A refusal by the server stays one.
fetch_patiently() {
  for pause in 1 2 4 8; do
    code=0
    fetch "$1" "$2" || code=$?
    if [ "$code" -eq 0 ]; then
      return 0
    elif [ "$code" -eq 22 ] && have curl; then
      return 1
    fi
    sleep "$pause"
  done
  fetch "$1" "$2"
}

# The image may have it. A copy, for what runs as root must not be a job's to change.
get_agent() {
  name_agent
  found=$(command -v runner-launch || :)
  if [ -n "$found" ] && cp "$found" "$program.new" 2>/dev/null; then
    if is_genuine "$program.new"; then
      chmod 755 "$program.new"
      mv "$program.new" "$program"
      say "the image's agent is the right one"
      return 0
    fi
    say "the image's agent is another version; downloading"
  fi
  have curl || have wget ||
    fail "neither curl nor wget is here to download the agent: put it into the image as" \
      "runner-launch, or add curl"
  fetch_patiently "$url" "$program.new" || fail "downloading the agent from $url failed"
  accept_agent
}

has_user() {
  grep -q '^runner:' "$root/etc/passwd" 2>/dev/null
}

# A line at the end of a file, whose last line may be without an end.
append() {
  if [ -n "$(tail -c 1 "$1" 2>/dev/null)" ]; then
    echo >>"$1" || return 1
  fi
  echo "$2" >>"$1"
}

append_user() {
  id=1001
  while grep -q "^[^:]*:[^:]*:$id:" "$root/etc/passwd" "$root/etc/group" 2>/dev/null; do
    id=$((id + 1))
  done
  append "$root/etc/group" "runner:x:$id:" &&
    append "$root/etc/passwd" "runner:x:$id:$id::/home/runner:$shell" &&
    mkdir -p "$root/home/runner" &&
    chown "$id:$id" "$root/home/runner"
}

# The user of the jobs, with the tools that the image has for it, or without any.
make_user() {
  shell=$(command -v bash || command -v sh)
  # Without the image's own files for a home: Debian's `.bash_logout` fails without a terminal, and with
  # it every job of GitLab's.
  # <https://docs.gitlab.com/runner/shells/#shell-profile-loading>
  has_user ||
    useradd --create-home --skel /dev/null --shell "$shell" runner >/dev/null 2>&1 || :
  # BusyBox's.
  has_user || adduser -D -s "$shell" runner >/dev/null 2>&1 || :
  has_user || append_user 2>/dev/null || :
  has_user || say "warning: the image's list of users can't be changed: the jobs' user has no name"
}

set_up() {
  get_agent
  ! is_root || make_user
  # The runner program is by far the largest download: start it now.
  "$program" agent prepare --config "$config" &
  prepare=$!
  [ -z "$startup_script" ] || run_startup_script
  wait "$prepare" || fail "preparing the runner program failed"
}

# Waits for a process to its end, and sets `status`. A signal that is trapped ends a `wait` early.
await() {
  status=127
  while
    signalled=no
    code=0
    wait "$1" || code=$?
    # A shell may have forgotten what it has told once.
    [ "$code" -eq 127 ] || status=$code
    [ "$signalled" = yes ]
  do
    :
  done
}

say "setting up $name"
for tool in base64 chmod cp grep head id ls mkdir mv rm sha256sum sleep tail uname; do
  have "$tool" || fail "the image has no $tool"
done
have git || say "warning: the image has no git, which most jobs need"
# It is made for all to write.
mkdir -p "$work"
if is_root; then
  # Kubernetes does so with a Secret's files, whatever mode was asked for, where the pod has a group of
  # its own, which jobs' user may be in.
  # <https://kubernetes.io/docs/tasks/configure-pod-container/security-context/>
  ! is_open ||
    fail "jobs could read what this pod was started with, the runner's registration: fsGroup in the" \
      "pod template opens it to that group; leave it out, or let the pod run as the jobs' user"
  chmod 755 "$work"
  startup_home=$root/root
else
  startup_home=${HOME:-/}
  say "warning: not root here: jobs run as the agent's own user, and could read what it knows"
fi
if [ -e "$config" ]; then
  say "error: this container has run before, and its runner is gone"
  exit 1
fi
(umask 077 && printf '%s' "$agent_config" | base64 -d >"$config")

# Beside this shell, which hears of no signal while it does something itself.
set_up &
await "$!"
if [ "$status" -ne 0 ]; then
  say "setting the pod up failed ($status)"
  exit "$status"
fi
"$program" agent run --config "$config" &
agent=$!
say "agent started"
await "$agent"
if [ "$late" = yes ] && [ "$status" -eq 0 ]; then
  status=1
fi
exit "$status"
