#!/bin/sh
# Adds a user to the instance's own list. Its user id is the one that the sandbox has set apart for
# this instance's jobs.
set -eu
instance=${0%/bin/*}
root=$instance/root
shell=/bin/sh
home=
create=
skeleton=/etc/skel
name=
while [ $# -gt 0 ]; do
  case $1 in
    -m | --create-home) create=yes ;;
    -s | --shell) shift; shell=$1 ;;
    --shell=*) shell=${1#*=} ;;
    -d | --home-dir) shift; home=$1 ;;
    --home-dir=*) home=${1#*=} ;;
    -k | --skel) shift; skeleton=$1 ;;
    --skel=*) skeleton=${1#*=} ;;
    -r | --system | -U | --user-group | -N | --no-user-group | -M | --no-create-home) ;;
    -u | --uid | -g | --gid | -G | --groups | -c | --comment) shift ;;
    --uid=* | --gid=* | --groups=* | --comment=*) ;;
    -*)
      echo "useradd: unrecognized option '$1'" >&2
      exit 2
      ;;
    *) name=$1 ;;
  esac
  shift
done
if [ -z "$name" ]; then
  echo "Usage: useradd [options] LOGIN" >&2
  exit 2
fi
if grep -q "^$name:" "$root/etc/passwd"; then
  echo "useradd: user '$name' already exists" >&2
  exit 9
fi
if ! [ -w "$root/etc/passwd" ]; then
  echo "useradd: Permission denied." >&2
  echo "useradd: cannot lock /etc/passwd; try again later." >&2
  exit 1
fi
read -r uid gid <"$instance/job-user"
home=${home:-/home/$name}
echo "$name:x:$uid:$gid::$home:$shell" >>"$root/etc/passwd"
echo "$name:x:$gid:" >>"$root/etc/group"
if [ -n "$create" ]; then
  mkdir -p "$root$home"
  case $skeleton in
    "$root"/* | /dev/null) ;;
    *) skeleton=$root$skeleton ;;
  esac
  if [ -d "$skeleton" ]; then
    cp -R "$skeleton/." "$root$home"
  fi
  chmod 755 "$root$home"
  PATH=@HOST_PATH@ chown -R "$uid:$gid" "$root$home"
fi
