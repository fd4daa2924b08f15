# Clouds take the job's own token in place of a key, each from a file that is named in its own way.
tokens=$(mktemp -d)
chmod 700 "$tokens"
trap 'rm -rf "$tokens"' EXIT
(umask 077 && printf '%s' "${RUNNER_LAUNCH_ID_TOKEN:-}" >"$tokens/id")
if [ -n "$RUNNER_LAUNCH_AWS_ROLE" ]; then
  export AWS_ROLE_ARN="$RUNNER_LAUNCH_AWS_ROLE" AWS_WEB_IDENTITY_TOKEN_FILE="$tokens/id"
  export AWS_ROLE_SESSION_NAME="runner-launch-$CI_JOB_ID"
fi
if [ -n "$RUNNER_LAUNCH_AZURE_CLIENT_ID" ]; then
  export AZURE_CLIENT_ID="$RUNNER_LAUNCH_AZURE_CLIENT_ID" AZURE_TENANT_ID="$RUNNER_LAUNCH_AZURE_TENANT_ID"
  export AZURE_FEDERATED_TOKEN_FILE="$tokens/id"
fi
if [ -n "$RUNNER_LAUNCH_AZURE_SUBSCRIPTION_ID" ]; then
  export AZURE_SUBSCRIPTION_ID="$RUNNER_LAUNCH_AZURE_SUBSCRIPTION_ID"
fi
if [ -n "$RUNNER_LAUNCH_GCP_PROVIDER" ]; then
  printf '{"type":"external_account","audience":"//iam.googleapis.com/%s","subject_token_type":"urn:ietf:params:oauth:token-type:jwt","token_url":"https://sts.googleapis.com/v1/token","service_account_impersonation_url":"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/%s:generateAccessToken","credential_source":{"file":"%s"}}' \
    "$RUNNER_LAUNCH_GCP_PROVIDER" "$RUNNER_LAUNCH_GCP_SERVICE_ACCOUNT" "$tokens/id" >"$tokens/gcp.json"
  export GOOGLE_APPLICATION_CREDENTIALS="$tokens/gcp.json"
fi
