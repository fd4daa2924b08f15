# Has Compute Engine delete this very machine, by the token of its own service account. The token is
# in no argument and in nothing that is printed; a file holds it that only root may read.
# shellcheck shell=sh
# shellcheck disable=SC2154  # compute_api is assigned above
metadata=http://${GCE_METADATA_HOST:-169.254.169.254}/computeMetadata/v1

ask() {
  if command -v curl >/dev/null 2>&1; then
    curl -fsS --noproxy '*' --max-time 5 --retry 2 -H 'Metadata-Flavor: Google' "$metadata/$1"
  else
    wget -q -O - --no-proxy --timeout=5 --tries=3 --header='Metadata-Flavor: Google' "$metadata/$1"
  fi
}

# Both programs read the header from a file of settings; curl wants it quoted.
delete_machine() {
  project=$(ask project/project-id) && zone=$(ask instance/zone) && machine=$(ask instance/name) &&
    [ -n "$project" ] && [ -n "$zone" ] && [ -n "$machine" ] || return 1
  url=${compute_api%/}/projects/$project/zones/${zone##*/}/instances/$machine
  quote=
  if command -v curl >/dev/null 2>&1; then
    quote='"'
  fi
  ask instance/service-accounts/default/token |
    sed -n "s/.*\"access_token\" *: *\"\\([^\"]*\\)\".*/header = ${quote}Authorization: Bearer \\1${quote}/p" >"$1"
  [ -s "$1" ] || return 1
  if [ -n "$quote" ]; then
    curl -fsS --max-time 15 --retry 2 --config "$1" -X DELETE -o /dev/null "$url"
  else
    wget -q --config="$1" --timeout=15 --tries=3 --method=DELETE -O /dev/null "$url"
  fi
}

umask 077
settings=$(mktemp) || exit 1
if delete_machine "$settings"; then
  echo 'runner-launch: this machine is being deleted'
else
  echo 'runner-launch: this machine could not have itself deleted; turned off, it waits to be swept'
fi
rm -f "$settings"
