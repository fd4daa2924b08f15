//! What the API server's refusals mean, and what can be done about them.
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>

use kube::core::Status;
use kube::core::response::reason;

use crate::error::{Error, Kind};

/// Where the README says what the launcher must be allowed.
pub(super) const ROLE: &str = "the Role in this program's README is all that it needs: \
                    https://github.com/runner-launch/runner-launch#kubernetes";

const NAMESPACE: &str = "the namespace is that of the kubeconfig's context; \
                         kubectl config set-context --current --namespace=NAME changes it";

/// The error of a call that came to nothing. Our own errors pass through `kube` as they are.
pub(super) fn told(doing: impl Into<String>, error: kube::Error) -> Error {
    let doing = doing.into();
    match error {
        kube::Error::Api(status) => refused(doing, &status),
        kube::Error::Service(source) => match source.downcast::<Error>() {
            Ok(error) => error.during(doing),
            Err(source) => Error::other(doing).caused_by(source.to_string()),
        },
        // A parser's message may show a piece of the text.
        kube::Error::SerdeError(_) => {
            Error::other(doing).caused_by("the answer isn't what the API describes")
        }
        // A plugin of `kube`'s own shows its whole output.
        kube::Error::Auth(_) => {
            Error::new(Kind::Denied, doing).caused_by("the kubeconfig's user can't be signed in")
        }
        error => Error::other(doing).caused_by(error),
    }
}

/// The error that a Status tells.
pub(super) fn refused(doing: impl Into<String>, status: &Status) -> Error {
    let said = said(status);
    let error = |kind| {
        let error = Error::new(kind, doing).caused_by(said);
        // A server that fails may have done what it was asked for.
        match status.code < 500 && is_genuine(status) {
            true => error.refused(),
            false => error,
        }
    };
    match (status.code, status.reason.as_str()) {
        (401, _) => error(Kind::Denied)
            .hint("the cluster doesn't accept the kubeconfig's credentials: they may have expired"),
        (403, _) if is_quota(&status.message) => error(Kind::Capacity).hint(
            "free some of the namespace's quota, or have it raised: \
             kubectl describe resourcequota",
        ),
        (403, _) if is_policy(&status.message) => error(Kind::Denied).hint(policy_hint()),
        (403, _) if is_ending_namespace(status) => error(Kind::Usage).hint(NAMESPACE),
        (403, _) => error(Kind::Denied).hint(ROLE),
        (404, _) if is_no_namespace(status) => error(Kind::Usage).hint(NAMESPACE),
        (400 | 413 | 422, _) => error(Kind::Usage),
        _ => error(Kind::Other),
    }
}

/// Whether nothing is there by that name.
pub(super) fn is_absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status)
        if status.code == 404 && is_genuine(status) && !is_no_namespace(status))
}

/// Whether a namespace isn't there: then nothing can be said of what may be in it.
fn is_no_namespace(status: &Status) -> bool {
    status.code == 404 && is_about(status, "namespaces")
}

/// Whether a namespace is on its way out, and takes nothing new.
fn is_ending_namespace(status: &Status) -> bool {
    status.code == 403 && status.message.contains("because it is being terminated")
}

/// Whether it is the API server's own answer: `kube` makes one up for what something in between
/// says, such as a proxy's page.
fn is_genuine(status: &Status) -> bool {
    !status.reason.contains(' ')
}

/// Whether something is there by that name, or has changed meanwhile.
pub(super) fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Whether a change names the uid of something that had the name before: the server takes that for an
/// attempt to change the uid.
pub(super) fn is_another(error: &kube::Error) -> bool {
    const UID: &str = "metadata.uid";
    matches!(error, kube::Error::Api(status) if status.code == 422
        && status.details.iter().flat_map(|details| &details.causes).any(|cause| cause.field == UID))
}

/// Whether a call, or all of its kind, isn't allowed.
pub(super) fn is_denied(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

/// Whether a call's credentials aren't accepted.
pub(super) fn is_unauthorized(status: &Status) -> bool {
    status.code == 401 || status.reason == reason::UNAUTHORIZED
}

/// Whether a refusal is a quota's.
/// <https://kubernetes.io/docs/concepts/policy/resource-quotas/>
pub(super) fn is_quota(message: &str) -> bool {
    message.contains("exceeded quota")
        || message.contains("failed quota")
        // A LimitRange's.
        || (message.contains("maximum ") && message.contains(" usage per "))
}

/// Whether a refusal is that of an admission policy, which no repetition changes.
/// <https://kubernetes.io/docs/concepts/security/pod-security-admission/>
pub(super) fn is_policy(message: &str) -> bool {
    [
        "violates PodSecurity",
        "admission webhook",
        "ValidatingAdmissionPolicy",
        "unable to validate against any security context constraint",
    ]
    .iter()
    .any(|words| message.contains(words))
}

/// What can be done about a policy.
pub(super) fn policy_hint() -> &'static str {
    "the cluster's rules refuse the pod: give it what they ask for by \
     --cloud-kubernetes-pod-template (the README shows one for restricted namespaces)"
}

fn is_about(status: &Status, kind: &str) -> bool {
    status
        .details
        .as_ref()
        .is_some_and(|details| details.kind == kind)
}

/// Older servers quote what stands around what they can't read, which may be a secret of the user's.
fn own_words(message: &str) -> &str {
    let own = message.split_once(", error found in #");
    own.map_or(message, |(own, _)| own).trim()
}

/// The server's words, with the causes that they don't name.
fn said(status: &Status) -> String {
    // What isn't the server's own is somebody's page.
    let longest = if is_genuine(status) { 2000 } else { 600 };
    let cut = |text: &str| own_words(text).chars().take(longest).collect::<String>();
    let mut said = match status.message.is_empty() {
        true => format!("{} {}", status.code, status.reason)
            .trim()
            .to_owned(),
        false => cut(&status.message),
    };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    for cause in causes {
        let why = cut(&cause.message);
        if !why.is_empty() && !said.contains(&why) {
            said.push_str(&format!("; {}: {why}", cause.field));
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(code: u16, message: &str, causes: serde_json::Value) -> Status {
        let status = json!({
            "status": "Failure", "code": code, "message": message, "reason": "Invalid",
            "details": { "name": "x", "kind": "jobs", "causes": causes },
        });
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn another_s_uid_is_an_immutable_field() {
        let causes = |field: &str| json!([{ "field": field, "message": "field is immutable" }]);
        let error = |field| kube::Error::Api(Box::new(status(422, "", causes(field))));
        assert!(is_another(&error("metadata.uid")));
        assert!(!is_another(&error("spec.template")));
    }

    #[test]
    fn a_server_s_words_are_told_once_and_without_what_it_quotes() {
        let quoting = "Job in version \"v1\" cannot be handled as a Job: v1.Quantity: must match, \
                       error found in #10 byte of ...|e\":\"hush\"|..., bigger context ...|hush|...";
        let error = refused("checking", &status(400, quoting, json!([])));
        assert!(error.chain().ends_with("must match"), "{}", error.chain());
        let long = format!("{} is wrong", "x".repeat(700));
        let causes = json!([
            { "field": "spec", "message": long },
            { "field": "a", "message": "b, error found in #1 byte of ...|hush|..." },
        ]);
        let error = refused("checking", &status(422, &format!("spec: {long}"), causes));
        assert!(
            error.chain().ends_with("xx is wrong; a: b"),
            "{}",
            error.chain()
        );
        assert_eq!(error.chain().matches("is wrong").count(), 1);
    }

    #[test]
    fn a_namespace_that_goes_is_no_lack_of_permissions() {
        let message = "jobs.batch \"x\" is forbidden: unable to create new content in namespace n \
                       because it is being terminated";
        let error = refused("making", &status(403, message, json!([])));
        assert_eq!(error.kind(), Kind::Usage);
        assert_eq!(error.hints(), [NAMESPACE]);
    }
}
