#!/bin/sh
# chown and chgrp: names are those of the instance's own lists, and nothing outside of the instance
# is touched.
set -u
root=${0%/bin/*}/root
tool=${0##*/}

number() {
  case $2 in
    *[!0-9]*) awk -F: -v name="$2" '$1 == name { print $3; exit }' "$root/etc/$1" ;;
    *) echo "$2" ;;
  esac
}

owner=
options=
names=0
for word in "$@"; do
  shift
  case $word in
    -*) options="$options $word" ;;
    *)
      if [ "$names" -eq 0 ]; then
        owner=$word
      else
        case $(realpath -m -- "$word" 2>/dev/null || echo "$word") in
          "$root"/*) set -- "$@" "$word" ;;
          *)
            echo "$tool: $word is not on this instance" >&2
            exit 1
            ;;
        esac
      fi
      names=$((names + 1))
      ;;
  esac
done
if [ "$names" -lt 2 ]; then
  echo "$tool: missing operand" >&2
  exit 1
fi

user=
group=
if [ "$tool" = chgrp ]; then
  group=$owner
else
  user=${owner%%:*}
  case $owner in
    *:) group=@ ;;
    *:*) group=${owner#*:} ;;
  esac
fi
spec=
if [ -n "$user" ]; then
  spec=$(number passwd "$user")
  if [ -z "$spec" ]; then
    echo "$tool: invalid user: '$owner'" >&2
    exit 1
  fi
fi
case $group in
  '') ;;
  @) spec=$spec:$(awk -F: -v uid="$spec" '$3 == uid { print $4; exit }' "$root/etc/passwd") ;;
  *)
    number=$(number group "$group")
    if [ -z "$number" ]; then
      echo "$tool: invalid group: '$owner'" >&2
      exit 1
    fi
    spec=$spec:$number
    ;;
esac
# shellcheck disable=SC2086  # a list of options
PATH=@HOST_PATH@ exec chown $options "$spec" "$@"
