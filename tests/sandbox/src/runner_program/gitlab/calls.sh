# --- Its calls.

# The real one needs no curl, so an image that brings it may have none on its search path.
curl=$(command -v curl || PATH=/usr/local/bin:/usr/bin:/bin command -v curl)

# call METHOD PATH [CURL-OPTIONS] 3<CURL-CONFIG: sets `code`, the answer's HTTP status or 000. In the
# background and waited for: only so does a trap run at once.
call() {
  method=$1 path=$2
  shift 2
  : >"$scratch/code"
  "$curl" --silent --config - --request "$method" --connect-timeout 5 --max-time 30 \
    --output "$scratch/answer" --dump-header "$scratch/head" --write-out '%{http_code}\n' \
    "$@" "${url%/}/api/v4$path" >"$scratch/code" <&3 &
  asking=$!
  wait "$asking"
  # A trap ends the wait, but not the call: its answer may be a job.
  while kill -0 "$asking" 2>/dev/null; do
    wait "$asking"
  done
  code=000
  read -r code <"$scratch/code" || code=000
}

# Gives curl its configuration without a file and without an argument.
configured() {
  configuration=$1
  shift
  # A here-document, as file descriptor 3: a command in the background gets no standard input.
  "$@" 3<<CONFIGURATION
$configuration
CONFIGURATION
}

# What a JSON body has to be in curl's configuration.
json_body() {
  printf 'header = "Content-Type: application/json"\ndata-raw = "%s"\n' \
    "$(printf '%s' "$1" | sed 's/[\\"]/\\&/g')"
}

json_text() {
  printf '"%s"' "$(printf '%s' "$1" | tr -d '\n' | sed 's/[\\"]/\\&/g')"
}

about() {
  printf '"info":{"name":"%s","version":"%s","revision":"%s","platform":"linux",' \
    "$program" "$version" "$revision"
  printf '"architecture":"%s","executor":"%s","shell":"bash",' "$architecture" "$executor"
  printf '"features":{"variables":true,"cancel_gracefully":true},"config":{"gpus":%s}}' \
    "$(json_text "$gpus")"
}

request_job() {
  configured "$(json_body \
    "{$(about),\"token\":$(json_text "$token"),\"system_id\":\"$system_id\"}")" \
    call POST /jobs/request --header 'Accept: text/plain'
}

# Tells how the job stands: update_job STATE [FAILURE-REASON EXIT-CODE].
update_job() {
  more=
  [ $# -lt 3 ] || more=",\"failure_reason\":\"$2\",\"exit_code\":$3"
  configured "$(json_body \
    "{$(about),\"token\":$(json_text "$job_token"),\"state\":\"$1\"$more}")" \
    call PUT "/jobs/$job" --max-time 10
  read_job_status
}

with_job_token() {
  configured "header = \"JOB-TOKEN: $job_token\"" call "$@"
}

# Notices by an answer that the job was cancelled.
read_job_status() {
  status=$(sed -n 's/^[Jj]ob-[Ss]tatus: *\([a-z]*\).*/\1/p' "$scratch/head" 2>/dev/null)
  case $code:$status in
    ???:canceling) cancelled=yes ;;
    403:*) cancelled=yes ;;
  esac
}

