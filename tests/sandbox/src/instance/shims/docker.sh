#!/bin/sh
# A Docker client whose daemon runs nothing.
case ${1:-} in
  --version | -v) echo "Docker version 27.5.1, build 9f9e405" ;;
  version) echo "27.5.1" ;;
  info) echo "Server Version: 27.5.1" ;;
  ps | images) echo ;;
  *)
    echo "docker: this instance is part of a sandbox and starts no containers" >&2
    exit 125
    ;;
esac
