#!/bin/sh
# `usermod -aG GROUP[,GROUP] USER` on the instance's own list.
set -eu
instance=${0%/bin/*}
groups=
user=
while [ $# -gt 0 ]; do
  case $1 in
    -aG | -Ga | -G | --groups) shift; groups=$1 ;;
    --groups=*) groups=${1#*=} ;;
    -a | --append) ;;
    -*)
      echo "usermod: unrecognized option '$1'" >&2
      exit 2
      ;;
    *) user=$1 ;;
  esac
  shift
done
if ! grep -q "^$user:" "$instance/root/etc/passwd"; then
  echo "usermod: user '$user' does not exist" >&2
  exit 6
fi
list=$instance/root/etc/group
for group in $(echo "$groups" | tr ',' ' '); do
  if ! grep -q "^$group:" "$list"; then
    echo "usermod: group '$group' does not exist" >&2
    exit 6
  fi
  if ! grep -Eq "^$group:.*[:,]$user(,|\$)" "$list"; then
    sed "s/^\($group:.*[^:]\)\$/\1,$user/; s/^\($group:[^:]*:[^:]*:\)\$/\1$user/" "$list" >"$list.new"
    cat "$list.new" >"$list"
    rm -f "$list.new"
  fi
done
