#!/bin/sh
# The host's git, where it has one.
if PATH=@HOST_PATH@ command -v git >/dev/null 2>&1; then
  PATH=@HOST_PATH@ exec git "$@"
fi
case ${1:-} in
  --version | version) echo "git version 2.43.0" ;;
  *)
    echo "git: the machine that this sandbox runs on has no git" >&2
    exit 1
    ;;
esac
