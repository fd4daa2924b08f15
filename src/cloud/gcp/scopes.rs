//! `--cloud-permission-set`: a service account, and what a token of it is good for.

const PREFIX: &str = "https://www.googleapis.com/auth/";

/// Reading and writing everything that the account itself may.
const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Reading and writing Compute Engine alone: enough for an instance to delete itself.
pub(super) const COMPUTE: &str = "https://www.googleapis.com/auth/compute";

/// gcloud's short names, and what each stands for, without [`PREFIX`].
/// <https://docs.cloud.google.com/sdk/gcloud/reference/compute/instances/set-service-account#--scopes>
const ALIASES: &[(&str, &[&str])] = &[
    ("bigquery", &["bigquery"]),
    ("cloud-platform", &["cloud-platform"]),
    ("cloud-source-repos", &["source.full_control"]),
    ("cloud-source-repos-ro", &["source.read_only"]),
    ("compute-ro", &["compute.readonly"]),
    ("compute-rw", &["compute"]),
    ("datastore", &["datastore"]),
    (
        "default",
        &[
            "devstorage.read_only",
            "logging.write",
            "monitoring.write",
            "pubsub",
            "service.management.readonly",
            "servicecontrol",
            "trace.append",
        ],
    ),
    (
        "gke-default",
        &[
            "devstorage.read_only",
            "logging.write",
            "monitoring",
            "service.management.readonly",
            "servicecontrol",
            "trace.append",
        ],
    ),
    ("logging-write", &["logging.write"]),
    ("monitoring", &["monitoring"]),
    ("monitoring-read", &["monitoring.read"]),
    ("monitoring-write", &["monitoring.write"]),
    ("pubsub", &["pubsub"]),
    ("service-control", &["servicecontrol"]),
    ("service-management", &["service.management.readonly"]),
    ("sql", &["sqlservice"]),
    ("sql-admin", &["sqlservice.admin"]),
    ("storage-full", &["devstorage.full_control"]),
    ("storage-ro", &["devstorage.read_only"]),
    ("storage-rw", &["devstorage.read_write"]),
    ("taskqueue", &["taskqueue"]),
    ("trace", &["trace.append"]),
    ("userinfo-email", &["userinfo.email"]),
];

/// A service account for the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) email: String,
    pub(super) scopes: Vec<String>,
}

impl Account {
    /// Reads `email` or `email,scopes=a,b`. Complaints lack the option's name.
    pub(super) fn read(text: &str) -> Result<Self, Vec<String>> {
        let mut complaints = Vec::new();
        let (email, scopes) = match text.split_once(',') {
            None => (text, None),
            Some((email, rest)) => {
                let scopes = rest.strip_prefix("scopes=");
                if scopes.is_none() {
                    complaints.push(format!(
                        "`{text}` isn't of the form ACCOUNT,scopes=storage-rw,logging-write"
                    ));
                }
                (email, scopes)
            }
        };
        let well_formed = email.split_once('@').is_some_and(|(name, domain)| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+:".contains(c);
            !name.is_empty()
                && domain.contains('.')
                && name.chars().all(plain)
                && domain.chars().all(plain)
        });
        // Google's own word for the project's default account.
        if !well_formed && email != "default" {
            complaints.push(format!(
                "`{email}` is no service account's address such as \
                 name@project.iam.gserviceaccount.com"
            ));
        }
        let mut full: Vec<String> = Vec::new();
        for name in scopes.map(|scopes| scopes.split(',')).into_iter().flatten() {
            match expand(name.trim()) {
                Ok(scopes) => {
                    let new = scopes.into_iter().filter(|scope| !full.contains(scope));
                    full.extend(new.collect::<Vec<_>>());
                }
                Err(complaint) => complaints.push(complaint),
            }
        }
        if !complaints.is_empty() {
            return Err(complaints);
        }
        if scopes.is_none() {
            full.push(CLOUD_PLATFORM.to_owned());
        }
        Ok(Self {
            email: email.to_owned(),
            scopes: full,
        })
    }

    /// Whether a token of it can delete an instance, as far as scopes go.
    pub(super) fn can_delete(&self) -> bool {
        self.scopes
            .iter()
            .any(|scope| scope == CLOUD_PLATFORM || scope == COMPUTE)
    }
}

fn expand(name: &str) -> Result<Vec<String>, String> {
    let known = ALIASES.iter().find(|(alias, _)| *alias == name);
    if let Some((_, scopes)) = known {
        return Ok(scopes
            .iter()
            .map(|scope| format!("{PREFIX}{scope}"))
            .collect());
    }
    let is_address = name.strip_prefix("https://").is_some_and(|rest| {
        !rest.is_empty() && rest.chars().all(|c| c.is_ascii_graphic() && c != '"')
    });
    if is_address {
        return Ok(vec![name.to_owned()]);
    }
    Err(format!(
        "`{name}` is neither a scope's address nor one of gcloud's short names: {}",
        ALIASES
            .iter()
            .map(|(alias, _)| *alias)
            .collect::<Vec<_>>()
            .join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROBOT: &str = "ci@project.iam.gserviceaccount.com";

    #[test]
    fn accounts_and_scopes_are_read() {
        let storage = "https://www.googleapis.com/auth/devstorage.read_write";
        let drive = "https://www.googleapis.com/auth/drive";
        let cases = [
            (ROBOT.to_owned(), vec![CLOUD_PLATFORM], true),
            (format!("{ROBOT},scopes=compute-rw"), vec![COMPUTE], true),
            (
                format!("{ROBOT},scopes=storage-rw,{drive}"),
                vec![storage, drive],
                false,
            ),
            (
                format!("{ROBOT},scopes=storage-rw,storage-rw"),
                vec![storage],
                false,
            ),
        ];
        for (text, scopes, can_delete) in cases {
            let account = Account::read(&text).unwrap();
            assert_eq!(account.email, ROBOT);
            assert_eq!(account.scopes, scopes);
            assert_eq!(account.can_delete(), can_delete, "{text}");
        }
        let default = Account::read("default,scopes=default").unwrap();
        assert_eq!(default.scopes.len(), 7);
    }

    #[test]
    fn wrong_permission_sets_are_explained() {
        let cases = [
            ("", "`` is no service account's address"),
            ("robot", "`robot` is no service account's address"),
            ("a b@c.d", "`a b@c.d` is no service account's address"),
            ("a@b.c,storage-rw", "`a@b.c,storage-rw` isn't of the form"),
            ("a@b.c,scopes=", "`` is neither a scope's address"),
            ("a@b.c,scopes=all", "`all` is neither a scope's address"),
        ];
        for (text, expected) in cases {
            let complaints = Account::read(text).unwrap_err();
            assert!(complaints[0].starts_with(expected), "{complaints:?}");
        }
    }
}
