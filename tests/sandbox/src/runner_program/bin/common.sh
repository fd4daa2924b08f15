# shellcheck shell=sh
# shellcheck disable=SC2034  # what is set here is used by the scripts that read this file
# What the parts of the runner program share.

version=@VERSION@
root=$(pwd)
scratch=$root/_diag
mkdir -p "$scratch"
# The body of the latest answer.
answer=$scratch/answer.$$
# The real one needs no curl, so an image that brings it may have none on its search path.
curl=$(command -v curl || PATH=/usr/local/bin:/usr/bin:/bin command -v curl)

now() {
  date -u '+%Y-%m-%d %H:%M:%SZ'
}

# Reads the settings that config.sh wrote.
read_settings() {
  while IFS= read -r line; do
    case $line in
      server=*) server=${line#*=} ;;
      id=*) runner_id=${line#*=} ;;
      name=*) runner_name=${line#*=} ;;
      ephemeral=*) ephemeral=${line#*=} ;;
      work=*) work=${line#*=} ;;
    esac
  done <"$root/.runner"
}

# call METHOD PATH [CURL-OPTIONS]: prints the answer's HTTP status, 000 without one.
# What proves who this is comes from a file, never in an argument.
call() {
  method=$1 path=$2
  shift 2
  "$curl" --silent --config "$root/.credentials" --request "$method" --connect-timeout 5 \
    --output "$answer" --write-out '%{http_code}' "$@" "$server/_apis/runner/$path"
}
