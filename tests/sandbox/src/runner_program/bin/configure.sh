# shellcheck shell=sh
# shellcheck disable=SC2154  # the listener has read the options
# Registers the runner, or takes the registration back. Both end the process.

section() {
  printf '\n# %s\n\n' "$1"
}

stop() {
  echo "$*"
  exit 1
}

# The token goes to curl on its standard input: arguments can be read by everybody.
with_token() {
  path=$1
  shift
  printf 'header = "Authorization: Bearer %s"\n' "$input_token" |
    "$curl" --silent --config - --request POST --connect-timeout 5 --max-time 30 \
      --retry 3 --retry-delay 1 --output "$answer" --write-out '%{http_code}' \
      "$@" "$server/_apis/runner/$path"
}

default_labels() {
  case $(uname -m) in
    aarch64 | arm64) echo "self-hosted,Linux,ARM64" ;;
    *) echo "self-hosted,Linux,X64" ;;
  esac
}

configure() {
  line=--------------------------------------------------------------------------------
  printf '\n%s\n|%78s|\n|%26s%-52s|\n|%78s|\n%s\n' \
    "$line" "" "" "Self-hosted runner registration" "" "$line"
  if [ -f .runner ]; then
    stop "Cannot configure the runner because it is already configured. To reconfigure the" \
      "runner, run 'config.cmd remove' or './config.sh remove' first."
  fi
  [ -n "$input_unattended" ] || stop "This runner asks no questions: pass --unattended"
  for option in url token; do
    eval "value=\$input_$option"
    if [ -z "$value" ]; then
      stop "Invalid configuration provided for $option. Terminating unattended configuration."
    fi
  done
  scheme=${input_url%%://*}
  host=${input_url#*://}
  server=$scheme://${host%%/*}
  labels=$input_labels
  if [ -z "$input_no_default_labels" ]; then
    labels=$(default_labels),$labels
  elif [ -z "$labels" ]; then
    stop "Invalid configuration provided for labels. Terminating unattended configuration."
  fi

  section Authentication
  code=$(with_token register \
    --data-urlencode "url=$input_url" \
    --data-urlencode "name=${input_name:-$(uname -n)}" \
    --data-urlencode "labels=$labels" \
    --data-urlencode "group=$input_runnergroup" \
    --data-urlencode "work=${input_work:-_work}" \
    --data-urlencode "ephemeral=$input_ephemeral" \
    --data-urlencode "replace=$input_replace")
  case $code in
    200) ;;
    404)
      stop "Http response code: $(cat "$answer") from" \
        "'POST $server/_apis/runner/register' (Request Id: $$)"
      ;;
    000) stop "An error occurred: no answer from $server" ;;
    *) stop "$(cat "$answer")" ;;
  esac
  printf '\n√ Connected to GitHub\n'
  section "Runner Registration"
  (
    umask 077
    sed '/^$/,$d' "$answer" >.runner
    sed '1,/^$/d' "$answer" >.credentials
  )
  rm -f "$answer"
  printf '\n√ Runner successfully added\n√ Runner connection is good\n'
  section "Runner settings"
  printf '\n√ Settings Saved.\n\n'
  exit 0
}

remove() {
  section "Runner removal"
  [ -f .runner ] || stop "Runner is not configured; there is nothing to remove."
  [ -n "$input_token" ] ||
    stop "Invalid configuration provided for token. Terminating unattended configuration."
  read_settings
  code=$(with_token remove --data-urlencode "id=$runner_id")
  [ "$code" = 204 ] || stop "Failed: Removing runner from the server ($code $(cat "$answer"))"
  rm -f .runner .credentials
  printf '\n√ Runner removed successfully\n√ Removed .credentials\n√ Removed .runner\n'
  exit 0
}
