#!/bin/sh
# `id` of a user of the instance; of the caller, the host's own.
root=${0%/bin/*}/root
what=
name=
for word in "$@"; do
  case $word in
    -*) what=$what${word#-} ;;
    *) name=$word ;;
  esac
done
if [ -z "$name" ]; then
  PATH=@HOST_PATH@ exec id "$@"
fi
line=$(grep "^$name:" "$root/etc/passwd")
if [ -z "$line" ]; then
  echo "id: '$name': no such user" >&2
  exit 1
fi
uid=$(echo "$line" | cut -d: -f3)
gid=$(echo "$line" | cut -d: -f4)
case $what in
  u) echo "$uid" ;;
  g) echo "$gid" ;;
  un | nu) echo "$name" ;;
  gn | ng) awk -F: -v gid="$gid" '$3 == gid { print $1; exit }' "$root/etc/group" ;;
  *) echo "uid=$uid($name) gid=$gid($name)" ;;
esac
