# Everything above this line was filled in for this launch; everything below is the same for all.
# shellcheck shell=sh
# shellcheck disable=SC2154  # the variables are assigned above, and in the script that follows

set -eu
# Empty on a real machine; tests put a folder here, before every absolute path.
root=${RUNNER_LAUNCH_ROOT:-}

say() {
  printf 'runner-launch: %s\n' "$*"
}

fail() {
  say "error: $*"
  exit 1
}

have() {
  command -v "$1" >/dev/null 2>&1
}

wget_knows() {
  wget --help 2>&1 | grep -q -e "$1"
}

fetch() {
  if have curl; then
    curl -fsSL --retry 5 --retry-delay 1 --connect-timeout 10 --max-time 300 -o "$2" "$1"
  elif ! have wget; then
    fail "neither curl nor wget is here to download the agent"
  elif wget_knows --tries; then
    wget -q --tries=5 --timeout=60 -O "$2" "$1"
  # BusyBox's tries once. It takes -T wherever it was built, and crashes where that was without it.
  elif wget_knows '-T SEC'; then
    wget -q -T 60 -O "$2" "$1"
  else
    wget -q -O "$2" "$1"
  fi
}

# Sets the agent's address and its SHA-256.
name_agent() {
  case $(uname -m) in
    x86_64 | amd64) url=$agent_url_x86_64 sum=$agent_sha256_x86_64 ;;
    aarch64 | arm64) url=$agent_url_aarch64 sum=$agent_sha256_aarch64 ;;
    *) fail "no agent for the architecture $(uname -m)" ;;
  esac
  [ -n "$sum" ] || fail "no checksum of the agent for $(uname -m) was known at launch"
}

is_genuine() {
  echo "$sum  $1" | sha256sum -c - >/dev/null 2>&1
}

# Puts what was downloaded in its place, if it is the agent.
accept_agent() {
  is_genuine "$program.new" ||
    fail "the agent at $url is not the launcher's own version: its SHA-256 differs"
  chmod 755 "$program.new"
  mv "$program.new" "$program"
  say "agent downloaded and checked"
}

run_startup_script() {
  (umask 077 && printf '%s' "$startup_script" | base64 -d >"$work/startup")
  chmod 700 "$work/startup"
  say "running the startup script"
  interpreter=$(command -v bash || command -v sh)
  status=0
  case $(head -c 2 "$work/startup") in
    '#!') (cd / && HOME=$startup_home "$work/startup") || status=$? ;;
    *) (cd / && HOME=$startup_home "$interpreter" "$work/startup") || status=$? ;;
  esac
  rm -f "$work/startup"
  [ "$status" -eq 0 ] || fail "the startup script failed with exit code $status"
}

