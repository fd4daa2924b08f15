#!/bin/sh
# `getent passwd|group [KEY]` from the instance's own lists; other databases are the host's.
root=${0%/bin/*}/root
case ${1:-} in
  passwd | group) ;;
  *) PATH=@HOST_PATH@ exec getent "$@" ;;
esac
list=$root/etc/$1
if [ $# -lt 2 ]; then
  exec cat "$list"
fi
awk -F: -v key="$2" '$1 == key || $3 == key { print; found = 1; exit } END { exit found ? 0 : 2 }' "$list"
