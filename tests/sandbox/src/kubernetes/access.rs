//! Who calls, and what they may do.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/>
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{ApiError, Result};
use super::kind::Kind;
use super::path::Target;
use super::store::text;

/// A user, as the authenticator tells it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
}

impl User {
    pub(super) fn new(name: &str, group: &str) -> Self {
        User {
            name: name.into(),
            groups: vec![group.into()],
        }
    }

    /// A service account's.
    pub(super) fn service_account(namespace: &str, name: &str) -> Self {
        User {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".into(),
            ],
        }
    }
}

/// A rule of a Role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Rule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
    resource_names: Vec<String>,
}

/// What somebody wants to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) verb: String,
    pub(super) group: String,
    /// `pods/log`.
    pub(super) resource: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Rule {
    /// Everything.
    pub(super) fn all() -> Self {
        let any = || vec!["*".to_owned()];
        Rule {
            api_groups: any(),
            resources: any(),
            verbs: any(),
            resource_names: Vec::new(),
        }
    }

    fn allows(&self, wish: &Wish) -> bool {
        let among = |words: &[String], word: &str| words.iter().any(|w| w == "*" || w == word);
        let resource = self.resources.iter().any(|known| {
            known == "*"
                || *known == wish.resource
                || known.strip_prefix("*/").is_some_and(|sub| {
                    wish.resource.split_once('/').map(|(_, sub)| sub) == Some(sub)
                })
        });
        resource
            && among(&self.api_groups, &wish.group)
            && among(&self.verbs, &wish.verb)
            && (self.resource_names.is_empty() || self.resource_names.contains(&wish.name))
    }
}

/// Everybody that is known, and the roles that are bound to them.
#[derive(Debug, Default)]
pub(super) struct Access {
    tokens: BTreeMap<String, User>,
    /// Those that pods have, by their uids.
    pod_tokens: BTreeMap<String, String>,
    /// Rules of users by namespace; an empty one stands for all.
    roles: BTreeMap<(String, String), Vec<Rule>>,
}

impl Access {
    pub(super) fn add_token(&mut self, token: &str, user: User) {
        self.tokens.insert(token.into(), user);
    }

    pub(super) fn revoke(&mut self, token: &str) {
        self.tokens.remove(token);
    }

    pub(super) fn user(&self, token: &str) -> Option<User> {
        self.tokens.get(token).cloned()
    }

    pub(super) fn pod_token(&self, uid: &str) -> Option<String> {
        self.pod_tokens.get(uid).cloned()
    }

    pub(super) fn keep_pod_token(&mut self, uid: &str, token: &str) {
        self.pod_tokens.insert(uid.into(), token.into());
    }

    pub(super) fn bind(&mut self, user: &str, namespace: &str, rules: Vec<Rule>) {
        self.roles.insert((user.into(), namespace.into()), rules);
    }

    pub(super) fn allows(&self, user: &User, wish: &Wish) -> bool {
        // Every authenticated user may ask what it may do: the role `system:basic-user`.
        if wish.verb == "create" && wish.resource == Kind::AccessReview.plural() {
            return true;
        }
        if user.groups.iter().any(|group| group == "system:masters") {
            return true;
        }
        ["", wish.namespace.as_str()].iter().any(|namespace| {
            let key = (user.name.clone(), (*namespace).to_owned());
            let rules = self.roles.get(&key);
            rules.is_some_and(|rules| rules.iter().any(|rule| rule.allows(wish)))
        })
    }

    /// Refuses what a user may not do.
    pub(super) fn require(&self, user: &User, target: &Target) -> Result<()> {
        let wish = Wish {
            verb: target.verb.into(),
            group: target.kind.group().into(),
            resource: target.resource(),
            namespace: target.namespace.clone(),
            name: target.object_name(),
        };
        if self.allows(user, &wish) {
            return Ok(());
        }
        Err(denied(&user.name, target))
    }

    /// Answers a SelfSubjectAccessReview.
    pub(super) fn review(&self, user: &User, review: &Value) -> Result<Value> {
        let asked = &review["spec"]["resourceAttributes"];
        let other = &review["spec"]["nonResourceAttributes"];
        if asked.is_null() == other.is_null() {
            return Err(ApiError::invalid(
                Kind::AccessReview,
                "",
                &[super::error::Cause::invalid(
                    "spec.resourceAttributes",
                    asked,
                    "exactly one of nonResourceAttributes or resourceAttributes must be specified",
                )],
            ));
        }
        let resource = match text(&asked["subresource"]) {
            "" => text(&asked["resource"]).to_owned(),
            sub => format!("{}/{sub}", text(&asked["resource"])),
        };
        let wish = Wish {
            verb: text(&asked["verb"]).into(),
            group: text(&asked["group"]).into(),
            resource,
            namespace: text(&asked["namespace"]).into(),
            name: text(&asked["name"]).into(),
        };
        let allowed = if asked.is_null() {
            text(&other["verb"]) == "get"
        } else {
            self.allows(user, &wish)
        };
        let mut answer = review.clone();
        answer["metadata"]["creationTimestamp"] = Value::Null;
        answer["status"] = match allowed {
            true => json!({"allowed": true, "reason": format!(
                "RBAC: allowed by RoleBinding \"{}/{}\" of Role \"{}\" to User \"{}\"",
                user.name, wish.namespace, user.name, user.name
            )}),
            false => json!({"allowed": false}),
        };
        Ok(answer)
    }
}

/// The words of the API server for what the rules don't allow.
pub(super) fn denied(user: &str, target: &Target) -> ApiError {
    let place = match (target.kind.is_namespaced(), target.namespace.as_str()) {
        (true, "") | (false, _) => "at the cluster scope".to_owned(),
        (true, namespace) => format!("in the namespace {namespace:?}"),
    };
    let why = format!(
        "User {user:?} cannot {} resource {:?} in API group {:?} {place}",
        target.verb,
        target.resource(),
        target.kind.group()
    );
    ApiError::forbidden(target.kind, &target.object_name(), &why)
}
