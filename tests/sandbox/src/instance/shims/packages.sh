#!/bin/sh
# apt-get and dnf. "Installing" Docker, git or ICU puts the sandbox's stand-ins in place; any other
# package does not exist.
set -u
instance=${0%/bin/*}
tool=${0##*/}
case $tool in
  dnf) icu=usr/lib64/libicuuc.so.67 ;;
  *) icu=usr/lib/x86_64-linux-gnu/libicuuc.so.74 ;;
esac
if ! [ -w "$instance/bin" ]; then
  echo "$tool: this command has to be run with superuser privileges" >&2
  exit 100
fi
action=
status=0
while [ $# -gt 0 ]; do
  word=$1
  shift
  case $word in
    -o | -c) [ $# -eq 0 ] || shift ;;
    -*) ;;
    *)
      if [ -z "$action" ]; then
        action=$word
        continue
      fi
      case $word in
        docker | docker.io | docker-ce | moby-engine) ln -sf ../../../shims/docker "$instance/bin/docker" ;;
        git | git-core) ln -sf ../../../shims/git "$instance/bin/git" ;;
        *libicu*) : >"$instance/root/$icu" ;;
        ca-certificates | curl | wget | tar | gzip | jq | iptables | sudo) ;;
        *)
          echo "$tool: unable to locate package $word" >&2
          status=100
          ;;
      esac
      ;;
  esac
done
case $action in
  install | update | upgrade | makecache | clean) exit "$status" ;;
  *)
    echo "$tool: unknown action '$action'" >&2
    exit 100
    ;;
esac
