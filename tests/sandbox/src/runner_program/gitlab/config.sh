# --- Its configuration, config.toml: as much of TOML as such a file needs. Unlike the real one it
# takes no key that it doesn't know, so that a mistyped one is noticed.

# Prints KEY<tab>VALUE of the runner with the given name; a list's key once for each item.
read_toml() {
  WANTED=$1 awk '
    function bad(what) { print "!line " NR ": " what; failed = 1; exit 1 }
    function trim(text) { gsub(/^[ \t\r]+|[ \t\r]+$/, "", text); return text }
    # Takes a value off the front of `rest`; the answer is without quotes.
    function value(    out, c) {
      rest = trim(rest)
      if (substr(rest, 1, 1) == "\"") {
        out = ""
        rest = substr(rest, 2)
        while (rest != "") {
          c = substr(rest, 1, 1)
          rest = substr(rest, 2)
          if (c == "\"") { return out }
          if (c == "\\") {
            c = substr(rest, 1, 1)
            rest = substr(rest, 2)
            if (c !~ /["\\]/) { bad("an escape that this stand-in does not know: \\" c) }
          }
          out = out c
        }
        bad("a text without an end")
      }
      if (substr(rest, 1, 1) == "\047") {
        if (!match(rest, /^\047[^\047]*\047/)) { bad("a text without an end") }
        out = substr(rest, 2, RLENGTH - 2)
        rest = substr(rest, RLENGTH + 1)
        return out
      }
      if (!match(rest, /^[A-Za-z0-9_.+:-]+/)) { bad("no value") }
      out = substr(rest, 1, RLENGTH)
      if (out !~ /^(true|false|[0-9].*|[+-][0-9].*)$/) { bad("no value: " out) }
      rest = substr(rest, RLENGTH + 1)
      return out
    }
    function over() {
      rest = trim(rest)
      if (rest != "" && substr(rest, 1, 1) != "#") { bad("more than a value: " rest) }
    }
    function keep(key, text) { lines[section] = lines[section] key "\t" text "\n" }
    function known(key,    all) {
      all = " concurrent check_interval shutdown_timeout log_level log_format listen_address "
      if (section == "runners") {
        all = " name url id token token_obtained_at token_expires_at executor builds_dir" \
          " cache_dir environment shell limit output_limit request_concurrency clone_url" \
          " tls-ca-file pre_get_sources_script pre_build_script post_build_script "
      }
      if (section == "runners.docker") {
        all = " image volumes gpus runtime privileged pull_policy tls_verify disable_cache" \
          " shm_size network_mode disable_entrypoint_overwrite oom_kill_disable host cache_dir" \
          " helper_image memory cpus user wait_for_services_timeout allowed_images "
      }
      if (section == "session_server") { all = " session_timeout " }
      if (section ~ /^runners\.(cache|custom_build_dir|feature_flags)$/) { return 1 }
      return index(all, " " key " ")
    }
    function finish() {
      if (lines["runners"] ~ ("(^|\n)name\t" pattern "\n")) {
        found = found lines["runners"] lines["runners.docker"]
      }
      lines["runners"] = ""
      lines["runners.docker"] = ""
    }
    BEGIN {
      pattern = ENVIRON["WANTED"]
      gsub(/[^A-Za-z0-9_-]/, "[&]", pattern)
      section = ""
    }
    { line = trim($0) }
    line == "" || line ~ /^#/ { next }
    line ~ /^\[\[/ {
      if (line !~ /^\[\[runners\]\]/) { bad("not known: " line) }
      finish()
      section = "runners"
      next
    }
    line ~ /^\[/ {
      section = line
      sub(/^\[[ \t]*/, "", section)
      sub(/[ \t]*\].*$/, "", section)
      if (section !~ /^(session_server|runners\.(docker|cache|custom_build_dir|feature_flags))$/) {
        bad("not known: " line)
      }
      next
    }
    {
      at = index(line, "=")
      if (!at) { bad("no key and value: " line) }
      key = trim(substr(line, 1, at - 1))
      if (!known(key)) { bad("not known: " key (section == "" ? "" : " in [" section "]")) }
      rest = trim(substr(line, at + 1))
      if (substr(rest, 1, 1) != "[") {
        keep(key, value())
        over()
        next
      }
      rest = substr(rest, 2)
      for (;;) {
        rest = trim(rest)
        if (rest == "" || substr(rest, 1, 1) == "#") {
          if ((getline line) <= 0) { bad("a list without an end") }
          rest = line
        } else if (substr(rest, 1, 1) == "]") {
          rest = substr(rest, 2)
          over()
          next
        } else if (substr(rest, 1, 1) == ",") {
          rest = substr(rest, 2)
        } else {
          keep(key, value())
        }
      }
    }
    END { if (!failed) { finish(); printf "%s", found } }
  ' "$2"
}

load_config() {
  file=${config:-$(default_config)}
  if [ ! -r "$file" ]; then
    fatal "Error loading config: open $file: no such file or directory"
  fi
  if ! settings=$(read_toml "$runner" "$file"); then
    settings=$(printf '%s' "$settings" | tail -n 1 | sed 's/[\\"]/\\&/g')
    fatal "Error loading config: toml: ${settings#!}"
  fi
  if [ -z "$settings" ]; then
    fatal "Error loading runner by name: could not find a runner with the name '$runner'"
  fi
  # The file's runner replaces all that was said otherwise.
  url='' token='' executor='' builds_dir='' shell='' environment='' name=$runner
  image='' volumes='' gpus='' runtime='' privileged=''
  tab=$(printf '\t')
  while IFS="$tab" read -r key value; do
    case $key in
      url) url=$value ;;
      token) token=$value ;;
      executor) executor=$value ;;
      builds_dir) builds_dir=$value ;;
      shell) shell=$value ;;
      environment) environment=$(add "$environment" "$value") ;;
      image) image=$value ;;
      volumes) volumes=$(add "$volumes" "$value") ;;
      gpus) gpus=$value ;;
      runtime) runtime=$value ;;
      privileged) privileged=$value ;;
    esac
  done <<SETTINGS
$settings
SETTINGS
}

default_config() {
  if [ "$(id -u)" -eq 0 ]; then
    echo /etc/gitlab-runner/config.toml
  else
    echo "${HOME:-}/.gitlab-runner/config.toml"
  fi
}

