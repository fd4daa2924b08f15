#!/bin/sh
# systemctl, systemd-run, shutdown, poweroff and their like. The words are handed to the sandbox,
# which plays the instance's init; it answers with an exit code and a line of text.
set -u
instance=${0%/bin/*}
name=${0##*/}
call=$instance/init/$$

if ! mkfifo -m 600 "$call.reply" 2>/dev/null; then
  echo "$name: Interactive authentication required." >&2
  exit 1
fi
exec 3<>"$call.reply"
for word in "$name" "$@"; do
  printf '%s\0' "$word"
done >"$call"
echo "$$" >"$instance/init/doorbell"
read -r status text <&3
exec 3<&-
rm -f "$call" "$call.reply"
if [ -n "$text" ]; then
  if [ "$status" -eq 0 ] || [ "$status" -eq 3 ]; then
    echo "$text"
  else
    echo "$text" >&2
  fi
fi
exit "$status"
