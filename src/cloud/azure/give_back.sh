# Has Resource Manager delete this very machine with its group. Neither token nor secret is in an
# argument or in anything that is printed; files hold them that only root may read.
# shellcheck shell=sh
# shellcheck disable=SC2154  # arm, audience, identity, sign_in and form are assigned above
metadata=${AZURE_POD_IDENTITY_AUTHORITY_HOST:-http://169.254.169.254}/metadata

ask() {
  if command -v curl >/dev/null 2>&1; then
    curl -fsS --noproxy '*' --max-time 10 --retry 2 -H 'Metadata: true' "$metadata/$1"
  else
    wget -q -O - --no-proxy --timeout=10 --tries=3 --header='Metadata: true' "$metadata/$1"
  fi
}

about() {
  ask "instance/compute/$1?api-version=2021-02-01&format=text"
}

# The answer that holds a token. The form comes from a file.
ask_token() {
  if [ -z "$sign_in" ]; then
    ask "identity/oauth2/token?api-version=2018-02-01&resource=$audience${identity:+&client_id=$identity}"
  elif command -v curl >/dev/null 2>&1; then
    curl -fsS --max-time 20 --retry 2 --data-binary "@$folder/form" "$sign_in"
  else
    wget -q -O - --timeout=20 --tries=3 --post-file="$folder/form" "$sign_in"
  fi
}

# Both programs read the header from a file of settings; curl wants it quoted.
delete_group() {
  quote=
  if command -v curl >/dev/null 2>&1; then
    quote='"'
  fi
  ask_token |
    sed -n "s/.*\"access_token\" *: *\"\\([^\"]*\\)\".*/header = ${quote}Authorization: Bearer \\1${quote}/p" >"$folder/settings"
  [ -s "$folder/settings" ] || return 1
  if [ -n "$quote" ]; then
    curl -fsS --max-time 20 --retry 2 --config "$folder/settings" -X DELETE -o /dev/null "$1"
  else
    wget -q --config="$folder/settings" --timeout=20 --tries=3 --method=DELETE -O /dev/null "$1"
  fi
}

lower() {
  printf '%s' "$1" | tr '[:upper:]' '[:lower:]'
}

# The group must be one that was made for this machine alone; 2: it is not.
find_group() {
  group=$(about resourceGroupName) && machine=$(about name) && tags=$(about tags) &&
    subscription=$(about subscriptionId) || return 1
  [ -n "$group" ] && [ -n "$subscription" ] || return 1
  [ "$(lower "$group")" = "$(lower "$machine")" ] || return 2
  case ";$tags" in
    *';runner-launch:'*) ;;
    *) return 2 ;;
  esac
  url="$arm/subscriptions/$subscription/resourceGroups/$group?api-version=2021-04-01"
  url="$url&forceDeletionTypes=Microsoft.Compute%2FvirtualMachines"
}

ask_for_deletion() {
  find_group || return
  delete_group "$url" || return 1
}

# A role that was assigned just now counts after minutes only, and outages pass. Off, the machine would
# cost the same and could ask no more: it asks for a day.
delete_machine() {
  for pause in ${give_back_pauses:-5 10 15 20 30 30 $(yes 60 | head -n 1440)}; do
    ask_for_deletion && return 0
    [ "$?" -ne 2 ] || return 1
    sleep "$pause"
  done
  ask_for_deletion
}

umask 077
# A job may have filled the disk.
folder=$(mktemp -d 2>/dev/null) || folder=$(mktemp -d -p /run) || exit 1
printf '%s' "$form" >"$folder/form"
if delete_machine; then
  echo 'runner-launch: this machine is being deleted'
else
  echo 'runner-launch: this machine could not have itself deleted; turned off, it costs on until it is stopped or swept'
fi
rm -rf "$folder"
