//! Why AWS denied something, decoded.
//! <https://docs.aws.amazon.com/STS/latest/APIReference/API_DecodeAuthorizationMessage.html>

use serde::Deserialize;

/// What a decoded denial tells.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Denial {
    #[serde(rename = "explicitDeny", default)]
    explicit: bool,
    context: Context,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Context {
    principal: Option<Principal>,
    action: String,
    resource: String,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Principal {
    arn: Option<String>,
}

impl Denial {
    /// Reads the decoded message, which is JSON.
    pub(super) fn read(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// What would have to be allowed.
    pub(super) fn hint(&self) -> String {
        let Context {
            principal,
            action,
            resource,
        } = &self.context;
        let who = principal
            .as_ref()
            .and_then(|principal| principal.arn.as_deref())
            .unwrap_or("these credentials");
        match self.explicit {
            true => format!("a policy explicitly denies {action} on {resource} to {who}"),
            false => format!("allow {action} on {resource} to {who}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoded_denial_names_action_and_resource() {
        let denial = Denial::read(
            r#"{"allowed":false,"explicitDeny":false,"matchedStatements":{"items":[]},
                "failures":{"items":[]},"context":{"principal":{"id":"AIDA","name":"bot",
                "arn":"arn:aws:iam::123456789012:user/bot"},"action":"ec2:RunInstances",
                "resource":"arn:aws:ec2:us-west-1:123456789012:instance/*","conditions":{"items":[]}}}"#,
        )
        .unwrap();
        assert_eq!(
            denial.hint(),
            "allow ec2:RunInstances on arn:aws:ec2:us-west-1:123456789012:instance/* to \
             arn:aws:iam::123456789012:user/bot"
        );
    }
}
