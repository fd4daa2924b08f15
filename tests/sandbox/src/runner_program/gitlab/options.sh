# --- Its options.

unknown_flag() {
  echo "Incorrect Usage. flag provided but not defined: -$1"
  fatal "flag provided but not defined: -$1"
}

url=${CI_SERVER_URL:-} token=${CI_SERVER_TOKEN:-} executor=${RUNNER_EXECUTOR:-}
builds_dir=${RUNNER_BUILDS_DIR:-} shell=${RUNNER_SHELL:-} environment=${RUNNER_ENV:-}
image=${DOCKER_IMAGE:-} volumes=${DOCKER_VOLUMES:-} gpus=${DOCKER_GPUS:-}
runtime=${DOCKER_RUNTIME:-} privileged=${DOCKER_PRIVILEGED:-}
config=${CONFIG_FILE:-} runner='' wait_timeout=0 max_builds=0
name=${RUNNER_NAME:-}

# Adds to a list, one item a line.
add() {
  printf '%s%s%s' "$1" "${1:+
}" "$2"
}

set_option() {
  case $1 in
    u | url) url=$2 ;;
    t | token) token=$2 ;;
    name) name=$2 ;;
    executor) executor=$2 ;;
    builds-dir) builds_dir=$2 ;;
    shell) shell=$2 ;;
    env) environment=$(add "$environment" "$2") ;;
    docker-image) image=$2 ;;
    docker-volumes) volumes=$(add "$volumes" "$2") ;;
    docker-gpus) gpus=$2 ;;
    docker-runtime) runtime=$2 ;;
    wait-timeout | max-builds)
      case $2 in
        '' | *[!0-9]*) fatal "invalid value \\\"$2\\\" for flag -$1: parse error" ;;
      esac
      [ "$1" = wait-timeout ] && wait_timeout=$2 || max_builds=$2
      ;;
    c | config | r | runner)
      # Since 17.1.
      case $version in
        1[0-6].* | 17.0.*) unknown_flag "$1" ;;
      esac
      case $1 in
        c | config) config=$2 ;;
        *) runner=$2 ;;
      esac
      ;;
    cache-dir | clone-url | limit | output-limit | request-concurrency | tls-ca-file | \
      docker-host | docker-pull-policy | docker-network-mode | docker-shm-size | \
      docker-memory | docker-cpus | docker-user) ;;
    *) unknown_flag "$1" ;;
  esac
}

# The command's flags; a single dash is as good as two.
read_options() {
  while [ $# -gt 0 ]; do
    case $1 in
      --*=* | -*=*)
        option=${1%%=*}
        option=${option#-}
        set_option "${option#-}" "${1#*=}"
        ;;
      --docker-privileged | -docker-privileged) privileged=true ;;
      --docker-tlsverify | --docker-disable-cache) ;;
      -?*)
        option=${1#-}
        option=${option#-}
        [ $# -ge 2 ] || fatal "flag needs an argument: -$option"
        set_option "$option" "$2"
        shift
        ;;
      *) break ;;
    esac
    shift
  done
}

