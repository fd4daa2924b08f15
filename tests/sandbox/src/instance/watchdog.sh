#!/bin/sh
# Ends every process of the sandbox in the folder $1 once the sandbox's owner is gone: the owner
# holds the other end of standard input, and the kernel closes it however the owner ends.

folder=$1
while read -r _; do :; done

# Processes whose environment or working folder lies in the sandbox.
own() {
  grep -lF "$folder/" /proc/[0-9]*/environ 2>/dev/null | sed 's,^/proc/,,; s,/.*,,'
  # shellcheck disable=SC2012  # the names are numbers, and all of them come from one process
  ls -ld /proc/[0-9]*/cwd 2>/dev/null |
    sed -n "s,^.* /proc/\([0-9]*\)/cwd -> $folder/instances/.*,\1,p"
}

# The same with all their descendants and everyone in their process groups.
tree() {
  found=" $(own | tr '\n' ' ')"
  grown=yes
  while [ -n "$grown" ]; do
    grown=
    for process in /proc/[0-9]*; do
      pid=${process#/proc/}
      case $found in *" $pid "*) continue ;; esac
      { read -r line <"$process/stat"; } 2>/dev/null || continue
      # After the name in brackets: state, parent, process group.
      # shellcheck disable=SC2086
      set -- ${line##*)}
      case $found in
        *" $2 "* | *" $3 "*)
          found="$found$pid "
          grown=yes
          ;;
      esac
    done
  done
  echo "$found"
}

rounds=0
while [ "$rounds" -lt 100 ]; do
  alive=
  for pid in $(tree); do
    if [ "$pid" != "$$" ] && kill -9 "$pid" 2>/dev/null; then
      alive=yes
    fi
  done
  [ -n "$alive" ] || exit 0
  rounds=$((rounds + 1))
  sleep 0.05
done
