# A machine, from its first boot on: what `common.sh` begins.
# shellcheck shell=sh
# shellcheck disable=SC2154  # the variables are assigned above

program=$root/usr/local/bin/runner-launch
config=$root/etc/runner-launch/agent.json
work=$root/var/lib/runner-launch
startup_home=$root/root

# The end of the machine, as a program of its own: the agent removes the runner's record and has the
# machine deleted, where it is there to do it; else this does the latter by itself. Where the cloud
# deletes what is off, turning it off is enough. It may hold a secret: root's alone from the start.
# The agent may have it started once more, as a patient one that goes on where the agent can't.
give_back=$work/give-back
giving_back=$root/run/runner-launch-giving-back
write_give_back() {
  mkdir -p "$work"
  (umask 077 && : >"$give_back.new")
  cat >"$give_back.new" <<GIVE_BACK
#!/bin/sh
released=no
if [ "\${1:-}" != patient ] && [ -x '$program' ] && [ -e '$config' ]; then
  timeout 200 '$program' agent release --config '$config' && released=yes
  if [ "\$released" = yes ] && [ -e '$giving_back' ]; then
    exit 0
  fi
fi
if [ "\$released" = no ]; then
  (
    :
$farewell
  )
fi
sync
systemctl poweroff || shutdown -P now || poweroff -f
GIVE_BACK
  chmod 700 "$give_back.new"
  # All of it, or none: a crash must not leave an empty one that does nothing.
  sync "$give_back.new" 2>/dev/null || true
  mv "$give_back.new" "$give_back"
}

give_back() {
  sh "$give_back" || systemctl poweroff || shutdown -P now || poweroff -f
}

# Some clouds run this at every boot. A machine that comes back after a crash or a reboot has neither
# timer nor agent: it ends. The same boot again is a package's update, and nothing to do.
boot=$root/run/runner-launch-boot
if [ -e "$boot" ]; then
  say "this has run already since the machine was started"
  exit 0
fi
mkdir -p "$root/run"
: >"$boot"
if [ -e "$give_back" ]; then
  say "this machine has been up before; giving it back"
  give_back
  exit 0
fi

# First of all: whatever happens from here on, the machine ends at the deadline, unless a ready
# agent has left its mark by then (and has stopped the timer, which spares it the look).
write_give_back || true
last_resort="[ -e '$work/ready' ] || {
  echo 'runner-launch: not ready in time, giving the machine back' >'$root/dev/console' 2>&1
  sh '$give_back' || systemctl poweroff || poweroff -f
}"
systemd-run --quiet --collect --unit=runner-launch-deadline --on-active="$deadline" /bin/sh -c "$last_resort" ||
  (
    trap '' HUP
    sleep "$deadline"
    [ -e "$work/ready" ] || give_back
  ) >/dev/null 2>&1 &

# Where user data is cloud-init's, that runs these scripts at every boot but this one, whose turn is
# over.
boots=$root/var/lib/cloud/scripts/per-boot
mkdir -p "$boots"
printf '#!/bin/sh\nsh "%s" || systemctl poweroff || poweroff -f\n' "$give_back" >"$boots/runner-launch"
chmod 755 "$boots/runner-launch"

finish() {
  status=$?
  trap - EXIT
  if [ "$status" -ne 0 ]; then
    say "setting the machine up failed ($status); giving it back"
    # The console is read by the launcher: give it a moment to arrive there.
    sleep 2
    give_back
  fi
  exit "$status"
}
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

get_agent() {
  name_agent
  fetch "$url" "$program.new" || fail "downloading the agent from $url failed"
  accept_agent
}

have_icu() {
  for library in "$root"/usr/lib*/libicuuc.so.* "$root"/usr/lib/*/libicuuc.so.*; do
    if [ -e "$library" ]; then
      return 0
    fi
  done
  return 1
}

# On a machine's first boot, its own update may hold the lists' lock.
update_lists() {
  for pause in 2 3 5 10 20 40 60 60; do
    if apt-get -qq update; then
      return 0
    fi
    sleep "$pause"
  done
  say "the package lists can't be updated; trying with those that are there"
}

# Jobs expect Docker and Git; the runner program needs ICU. Images that have them lose no time.
install_missing() {
  missing=
  have docker || missing="$missing docker"
  have git || missing="$missing git"
  have_icu || missing="$missing icu"
  if [ -z "$missing" ]; then
    return 0
  fi
  say "installing$missing"
  if have apt-get; then
    packages=
    for name in $missing; do
      case $name in
        docker) packages="$packages docker.io" ;;
        icu) packages="$packages ^libicu[0-9]+\$" ;;
        *) packages="$packages $name" ;;
      esac
    done
    export DEBIAN_FRONTEND=noninteractive
    update_lists
    # shellcheck disable=SC2086  # a list of names
    apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $packages >/dev/null
  elif have dnf; then
    packages=
    for name in $missing; do
      case $name in
        icu) packages="$packages libicu" ;;
        *) packages="$packages $name" ;;
      esac
    done
    # shellcheck disable=SC2086  # a list of names
    dnf -q install -y $packages
  else
    fail "can't install$missing: neither apt-get nor dnf is here"
  fi
  systemctl enable --now docker >/dev/null 2>&1 || true
}

# The user of the jobs, as on hosted runners: its own home, Docker, and sudo without a password.
make_user() {
  if ! id -u runner >/dev/null 2>&1; then
    useradd --create-home --shell /bin/bash runner
  fi
  for group in docker sudo wheel; do
    if getent group "$group" >/dev/null 2>&1; then
      usermod -aG "$group" runner
    fi
  done
  mkdir -p "$root/etc/sudoers.d"
  rm -f "$root/etc/sudoers.d/runner-launch"
  echo 'runner ALL=(ALL) NOPASSWD:ALL' >"$root/etc/sudoers.d/runner-launch"
  chmod 440 "$root/etc/sudoers.d/runner-launch"
}

add_ssh_key() {
  for user in ubuntu admin ec2-user; do
    home=$root/home/$user
    if [ -d "$home" ]; then
      mkdir -p "$home/.ssh"
      printf '%s\n' "$ssh_key" >>"$home/.ssh/authorized_keys"
      chmod 700 "$home/.ssh"
      chmod 600 "$home/.ssh/authorized_keys"
      chown -R "$user" "$home/.ssh"
    fi
  done
}

# This very text is readable at the metadata service by every process of the machine. Close it, and
# what else the launcher named, to all but root, and to containers.
guard_metadata() {
  guarded=yes
  set -f
  for chain in "OUTPUT -m owner ! --uid-owner 0" FORWARD; do
    for word in $closed_metadata; do
      match=
      [ "$word" = '*' ] || match="-m string --algo bm --string $word"
      # shellcheck disable=SC2086  # a chain with its match, and a match
      iptables -w 5 -I $chain -d 169.254.169.254 -p tcp --dport 80 $match \
        -j REJECT --reject-with tcp-reset 2>/dev/null || guarded=no
    done
  done
  set +f
  [ "$guarded" = yes ] || say "warning: the user data can't be closed to jobs here (no iptables)"
}

write_unit() {
  mkdir -p "$root/etc/systemd/system"
  cat >"$root/etc/systemd/system/runner-launch.service" <<UNIT
[Unit]
Description=CI runner for exactly as long as there are jobs for it
After=network-online.target docker.service

[Service]
Type=exec
ExecStart=$program agent run --config $config
ExecStopPost=-$program agent release --config $config
StandardOutput=journal+console
StandardError=journal+console
KillMode=mixed
TimeoutStopSec=180
OOMScoreAdjust=-900
# A job that runs out of memory fails; the runner goes on.
OOMPolicy=continue
UNIT
  chmod 644 "$root/etc/systemd/system/runner-launch.service"
}

say "setting up $name"
mkdir -p "$root/usr/local/bin" "$root/etc/runner-launch" "$work"
chmod 700 "$root/etc/runner-launch"
(umask 077 && printf '%s' "$agent_config" | base64 -d >"$config")

install_missing &
packages=$!
get_agent
make_user
# The runner program is by far the largest download: start it now.
"$program" agent prepare --config "$config" &
prepare=$!
[ -z "$ssh_key" ] || add_ssh_key
write_unit
wait "$packages" || fail "installing packages failed"
make_user
guard_metadata
[ -z "$startup_script" ] || run_startup_script
wait "$prepare" || fail "downloading the runner program failed"
[ ! -e "$giving_back" ] || fail "the machine is being given back already"
systemctl daemon-reload
systemctl start runner-launch.service
say "agent started"
