#!/bin/sh
# sudo: root is who already is root. Others would have to become root of the host.
while [ $# -gt 0 ]; do
  case $1 in
    -n | -E | -H | --non-interactive | --preserve-env | --set-home) shift ;;
    --) shift && break ;;
    -*)
      echo "sudo: unrecognized option '$1'" >&2
      exit 1
      ;;
    *) break ;;
  esac
done
if [ $# -eq 0 ]; then
  echo "usage: sudo [-EHn] command [arg ...]" >&2
  exit 1
fi
if [ "$(PATH=@HOST_PATH@ id -u)" -eq 0 ]; then
  exec "$@"
fi
if grep -q '^NoNewPrivs:[[:space:]]*1' /proc/self/status; then
  echo 'sudo: The "no new privileges" flag is set, which prevents sudo from running as root.' >&2
  exit 1
fi
echo "sudo: the sandbox makes nobody root" >&2
exit 1
