#!/bin/sh
# A Docker client in a container, where no daemon runs.
case ${1:-} in
  --version | -v) echo "Docker version 29.1.2, build 890dcca" ;;
  '' | help | --help) echo "Usage:  docker [OPTIONS] COMMAND" ;;
  *)
    echo "Cannot connect to the Docker daemon at unix:///var/run/docker.sock." \
      "Is the docker daemon running?" >&2
    exit 1
    ;;
esac
