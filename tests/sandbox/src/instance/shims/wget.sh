#!/bin/sh
# The host's wget, where it has one; else its commonest options, by means of curl.
set -u
if PATH=@HOST_PATH@ command -v wget >/dev/null 2>&1; then
  PATH=@HOST_PATH@ exec wget "$@"
fi

output=
url=
tries=20
seconds=900
quiet=
headers=
while [ $# -gt 0 ]; do
  case $1 in
    -q | --quiet | -nv | --no-verbose) quiet=yes ;;
    -O | --output-document) shift && output=${1:-} ;;
    -O*) output=${1#-O} ;;
    -qO) quiet=yes && shift && output=${1:-} ;;
    -qO*) quiet=yes output=${1#-qO} ;;
    --output-document=*) output=${1#*=} ;;
    -t | --tries) shift && tries=${1:-} ;;
    --tries=*) tries=${1#*=} ;;
    -T | --timeout) shift && seconds=${1:-} ;;
    --timeout=*) seconds=${1#*=} ;;
    --header) shift && headers="$headers${1:-}
" ;;
    --header=*) headers="$headers${1#*=}
" ;;
    -*)
      echo "wget: unrecognized option '$1'" >&2
      exit 2
      ;;
    *) url=$1 ;;
  esac
  [ $# -eq 0 ] || shift
done
if [ -z "$url" ]; then
  echo "wget: missing URL" >&2
  exit 1
fi
[ -n "$output" ] || output=$(basename "${url%%\?*}")
# To wget, none means without end.
[ "$tries" -gt 0 ] || tries=20
printf '%s' "$headers" |
  PATH=@HOST_PATH@ curl --fail --silent --location --connect-timeout "$seconds" \
    --retry "$((tries - 1))" --header @- --output "$output" "$url"
status=$?
case $status in
  0) exit 0 ;;
  22) code=8 what="server returned error" ;;
  6 | 7 | 28 | 35 | 56) code=4 what="network failure" ;;
  *) code=1 what="failed" ;;
esac
[ -n "$quiet" ] || echo "wget: $what: $url" >&2
exit "$code"
