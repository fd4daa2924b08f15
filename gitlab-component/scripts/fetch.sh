# Fetches the program once, and checks it each time: what comes from a cache is nobody's word.
machine=$(uname -m)
case $machine in
  x86_64 | amd64) machine=x86_64 ;;
  aarch64 | arm64) machine=aarch64 ;;
  *) echo "error: runner-launch has no binary for $machine" >&2; exit 2 ;;
esac
fetch() {
  if command -v curl >/dev/null 2>&1; then
    curl -fsSL --retry 3 --connect-timeout 10 --max-time 300 -o "$2" "$1"
  elif command -v wget >/dev/null 2>&1; then
    wget -q -T 60 -O "$2" "$1"
  else
    echo "error: neither curl nor wget is in this image" >&2
    return 1
  fi
}
url=$(printf '%s' "$RUNNER_LAUNCH_BINARY_URL" | sed "s/{version}/$RUNNER_LAUNCH_BINARY_VERSION/g")
# Instances download the same program from the same place.
export RUNNER_LAUNCH_AGENT_URL="${RUNNER_LAUNCH_AGENT_URL:-$url}"
url=$(printf '%s' "$url" | sed "s/{arch}/$machine/g")
folder=$PWD/.runner-launch/$RUNNER_LAUNCH_BINARY_VERSION
program=$folder/runner-launch-linux-$machine
mkdir -p "$folder"
sum=$RUNNER_LAUNCH_BINARY_SHA256
if [ -z "$sum" ]; then
  # Those of this component's own release, by their addresses.
  sum=$(printf '%s\n' "$RUNNER_LAUNCH_RELEASED" | awk -v url="$url" '$2 == url { print $1 }')
fi
if [ -z "$sum" ]; then
  fetch "${url%/*}/SHA256SUMS" "$folder/SHA256SUMS" || { echo "error: no SHA256SUMS beside $url" >&2; exit 1; }
  sum=$(awk -v name="${url##*/}" '{ sub(/^\*/, "", $2) } $2 == name { print $1 }' "$folder/SHA256SUMS")
fi
genuine() {
  [ -n "$sum" ] && [ -f "$program" ] && echo "$sum  $program" | sha256sum -c - >/dev/null 2>&1
}
if ! genuine; then
  fetch "$url" "$program" || { echo "error: downloading $url failed" >&2; exit 1; }
  genuine || { rm -f "$program"; echo "error: $url has another SHA-256 than expected" >&2; exit 1; }
fi
chmod 755 "$program"
