//! The kinds of objects that the sandbox has.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/>

use serde_json::{Value, json};

/// A kind, with what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Event,
    Job,
    Namespace,
    Node,
    Pod,
    Secret,
    ServiceAccount,
    AccessReview,
}

impl Kind {
    pub(super) const ALL: [Kind; 8] = [
        Kind::Event,
        Kind::Job,
        Kind::Namespace,
        Kind::Node,
        Kind::Pod,
        Kind::Secret,
        Kind::ServiceAccount,
        Kind::AccessReview,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Event => "Event",
            Kind::Job => "Job",
            Kind::Namespace => "Namespace",
            Kind::Node => "Node",
            Kind::Pod => "Pod",
            Kind::Secret => "Secret",
            Kind::ServiceAccount => "ServiceAccount",
            Kind::AccessReview => "SelfSubjectAccessReview",
        }
    }

    pub(super) fn plural(self) -> &'static str {
        match self {
            Kind::Event => "events",
            Kind::Job => "jobs",
            Kind::Namespace => "namespaces",
            Kind::Node => "nodes",
            Kind::Pod => "pods",
            Kind::Secret => "secrets",
            Kind::ServiceAccount => "serviceaccounts",
            Kind::AccessReview => "selfsubjectaccessreviews",
        }
    }

    pub(super) fn short_names(self) -> &'static [&'static str] {
        match self {
            Kind::Event => &["ev"],
            Kind::Namespace => &["ns"],
            Kind::Node => &["no"],
            Kind::Pod => &["po"],
            Kind::ServiceAccount => &["sa"],
            Kind::Job | Kind::Secret | Kind::AccessReview => &[],
        }
    }

    pub(super) fn group(self) -> &'static str {
        match self {
            Kind::Job => "batch",
            Kind::AccessReview => "authorization.k8s.io",
            _ => "",
        }
    }

    /// `batch/v1`.
    pub(super) fn api_version(self) -> String {
        match self.group() {
            "" => "v1".into(),
            group => format!("{group}/v1"),
        }
    }

    /// `jobs.batch`, as messages have it.
    pub(super) fn qualified(self) -> String {
        match self.group() {
            "" => self.plural().into(),
            group => format!("{}.{group}", self.plural()),
        }
    }

    pub(super) fn is_namespaced(self) -> bool {
        !matches!(self, Kind::Namespace | Kind::Node | Kind::AccessReview)
    }

    /// The definition in the published schema.
    pub(super) fn definition(self) -> String {
        let package = match self {
            Kind::Job => "batch",
            Kind::AccessReview => "authorization",
            _ => "core",
        };
        format!("api.{package}.v1.{}", self.name())
    }

    pub(super) fn verbs(self) -> &'static [&'static str] {
        match self {
            Kind::AccessReview => &["create"],
            Kind::Node | Kind::Namespace => &["get", "list", "watch"],
            _ => &[
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch",
            ],
        }
    }

    /// What lies below an object of this kind.
    pub(super) fn subresources(
        self,
    ) -> &'static [(&'static str, &'static str, &'static [&'static str])] {
        match self {
            Kind::Pod => &[
                ("eviction", "Eviction", &["create"]),
                ("log", "Pod", &["get"]),
                ("status", "Pod", &["get"]),
            ],
            Kind::Job => &[("status", "Job", &["get"])],
            _ => &[],
        }
    }

    pub(super) fn by_plural(group: &str, plural: &str) -> Option<Kind> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.group() == group && kind.plural() == plural)
    }

    /// The head of an object.
    pub(super) fn head(self) -> Value {
        json!({"kind": self.name(), "apiVersion": self.api_version()})
    }
}
