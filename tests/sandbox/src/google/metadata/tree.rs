//! The values that a metadata server has, and how it prints them.
//! <https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys>

use serde_json::{Map, Value, json};

use super::Facts;
use crate::google::{PROJECT, PROJECT_NUMBER};

/// A value or a folder of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Folder(Vec<(&'static str, Entry)>),
    /// A folder whose keys somebody chose.
    Chosen(Vec<(String, Entry)>),
    /// A folder whose keys are numbers.
    Rows(Vec<Entry>),
    Text(String),
    Number(u64),
    /// One a line.
    Lines(Vec<String>),
    /// A list that is JSON in any case.
    List(Vec<String>),
    /// Made anew whenever it is asked for, and never shown with others.
    Token,
}

use Entry::{Chosen, Folder, Lines, List, Number, Rows, Text};

fn text(value: impl Into<String>) -> Entry {
    Text(value.into())
}

fn flag(value: bool) -> Entry {
    text(if value { "TRUE" } else { "FALSE" })
}

impl Entry {
    /// Everything below `/computeMetadata/v1/`.
    pub(super) fn of(facts: &Facts) -> Entry {
        Folder(vec![
            ("instance", instance(facts)),
            (
                "project",
                Folder(vec![
                    ("attributes", Chosen(Vec::new())),
                    ("numeric-project-id", Number(PROJECT_NUMBER)),
                    ("project-id", text(PROJECT)),
                ]),
            ),
            (
                "universe",
                Folder(vec![("universe-domain", text("googleapis.com"))]),
            ),
        ])
    }

    pub(super) fn is_folder(&self) -> bool {
        matches!(self, Folder(_) | Chosen(_) | Rows(_))
    }

    fn children(&self) -> Vec<(String, &Entry)> {
        match self {
            Folder(entries) => entries
                .iter()
                .map(|(name, entry)| ((*name).to_owned(), entry))
                .collect(),
            Chosen(entries) => entries
                .iter()
                .map(|(name, entry)| (name.clone(), entry))
                .collect(),
            Rows(rows) => rows
                .iter()
                .enumerate()
                .map(|(index, entry)| (index.to_string(), entry))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// What is at a path.
    pub(super) fn at(&self, path: &str) -> Option<&Entry> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        parts.try_fold(self, |entry, part| {
            let children = entry.children().into_iter();
            children
                .into_iter()
                .find_map(|(name, child)| (name == part).then_some(child))
        })
    }

    /// A value's text, or the names in a folder.
    pub(super) fn plain(&self) -> String {
        match self {
            Text(text) => text.clone(),
            Number(number) => number.to_string(),
            Lines(lines) => lines.iter().map(|line| format!("{line}\n")).collect(),
            List(list) => json!(list).to_string(),
            _ => self
                .children()
                .into_iter()
                .map(|(name, child)| match child.is_folder() {
                    true => format!("{name}/\n"),
                    false => format!("{name}\n"),
                })
                .collect(),
        }
    }

    /// Everything below a folder, a line each: its path and its value.
    pub(super) fn lines(&self) -> String {
        let mut lines = String::new();
        self.write_lines("", &mut lines);
        lines
    }

    fn write_lines(&self, path: &str, lines: &mut String) {
        if !self.is_folder() {
            if *self != Entry::Token {
                lines.push_str(&format!("{path} {}\n", self.plain().trim_end()));
            }
            return;
        }
        for (name, child) in self.children() {
            let path = match path {
                "" => name,
                path => format!("{path}/{name}"),
            };
            child.write_lines(&path, lines);
        }
    }

    /// The value, or everything below a folder, in JSON: there names have capitals for dashes.
    pub(super) fn json(&self) -> Value {
        match self {
            Folder(entries) => object(entries.iter().map(|(name, entry)| (capitals(name), entry))),
            Chosen(entries) => object(entries.iter().map(|(name, entry)| (name.clone(), entry))),
            Rows(rows) => rows.iter().map(Entry::json).collect(),
            Text(text) => text.as_str().into(),
            Number(number) => (*number).into(),
            Lines(list) | List(list) => json!(list),
            Entry::Token => Value::Null,
        }
    }
}

fn object<'a>(entries: impl Iterator<Item = (String, &'a Entry)>) -> Value {
    let entries = entries.filter(|(_, entry)| **entry != Entry::Token);
    let entries: Map<String, Value> = entries.map(|(name, entry)| (name, entry.json())).collect();
    entries.into()
}

/// `machine-type` as `machineType`.
fn capitals(name: &str) -> String {
    let mut parts = name.split('-');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (first, rest) = part.split_at(part.len().min(1));
        name.push_str(&first.to_ascii_uppercase());
        name.push_str(rest);
    }
    name
}

fn instance(facts: &Facts) -> Entry {
    let number = |kind: &str, name: &str| text(format!("projects/{PROJECT_NUMBER}/{kind}/{name}"));
    let attributes = facts.attributes.iter();
    let attributes = attributes.map(|(name, value)| (name.clone(), text(value)));
    let on_maintenance = match facts.terminates_on_maintenance {
        true => "TERMINATE",
        false => "MIGRATE",
    };
    Folder(vec![
        ("attributes", Chosen(attributes.collect())),
        ("cpu-platform", text("Intel Broadwell")),
        ("description", text(&facts.description)),
        (
            "disks",
            Rows(vec![Folder(vec![
                ("device-name", text("persistent-disk-0")),
                ("index", Number(0)),
                ("interface", text("SCSI")),
                ("mode", text("READ_WRITE")),
                ("type", text("PERSISTENT-BALANCED")),
            ])]),
        ),
        ("guest-attributes", Chosen(Vec::new())),
        (
            "hostname",
            text(format!(
                "{}.{}.c.{PROJECT}.internal",
                facts.name, facts.zone
            )),
        ),
        ("id", Number(facts.id)),
        ("image", text(&facts.image)),
        ("licenses", Rows(Vec::new())),
        ("machine-type", number("machineTypes", &facts.machine_type)),
        (
            "maintenance-event",
            text(facts.maintenance.as_deref().unwrap_or("NONE")),
        ),
        ("name", text(&facts.name)),
        (
            "network-interfaces",
            Rows(vec![Folder(vec![
                (
                    "access-configs",
                    Rows(
                        facts
                            .external_ip
                            .iter()
                            .map(|address| {
                                Folder(vec![
                                    ("external-ip", text(address)),
                                    ("type", text("ONE_TO_ONE_NAT")),
                                ])
                            })
                            .collect(),
                    ),
                ),
                ("ip", text(&facts.internal_ip)),
                ("network", number("networks", &facts.network)),
            ])]),
        ),
        ("preempted", flag(facts.preempted)),
        ("remaining-cpu-time", text("-1")),
        (
            "scheduling",
            Folder(vec![
                ("automatic-restart", flag(facts.automatic_restart)),
                ("on-host-maintenance", text(on_maintenance)),
                ("preemptible", flag(facts.preemptible)),
            ]),
        ),
        ("service-accounts", accounts(facts)),
        ("tags", List(facts.tags.clone())),
        ("virtual-clock", Folder(vec![("drift-token", text("0"))])),
        ("zone", number("zones", &facts.zone)),
    ])
}

/// The attached account, by its address and as `default`; nothing without one.
fn accounts(facts: &Facts) -> Entry {
    let Some((email, scopes)) = &facts.service_account else {
        return Chosen(Vec::new());
    };
    let account = Folder(vec![
        ("aliases", Lines(vec!["default".into()])),
        ("email", text(email)),
        ("scopes", Lines(scopes.clone())),
        ("token", Entry::Token),
    ]);
    Chosen(vec![
        (email.clone(), account.clone()),
        ("default".into(), account),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            id: 42,
            name: "ci-1".into(),
            zone: "us-west1-b".into(),
            machine_type: "e2-medium".into(),
            attributes: [("startup-script".into(), "#!/bin/sh\n".into())].into(),
            tags: vec!["web".into()],
            service_account: Some(("a@b".into(), vec!["x".into(), "y".into()])),
            ..Facts::default()
        }
    }

    #[test]
    fn values_are_plain() {
        let root = Entry::of(&facts());
        for (path, expected) in [
            ("instance/id", "42"),
            ("instance/name", "ci-1"),
            ("instance/zone", "projects/415104041262/zones/us-west1-b"),
            ("instance/preempted", "FALSE"),
            ("instance/maintenance-event", "NONE"),
            ("instance/tags", "[\"web\"]"),
            ("instance/attributes/startup-script", "#!/bin/sh\n"),
            ("instance/service-accounts/", "a@b/\ndefault/\n"),
            ("instance/service-accounts/default/scopes", "x\ny\n"),
            ("project/project-id", "octo-ci"),
            ("project/", "attributes/\nnumeric-project-id\nproject-id\n"),
        ] {
            assert_eq!(root.at(path).unwrap().plain(), expected, "{path}");
        }
        for path in ["instance/nonsense", "instance/id/x", "project/attributes/x"] {
            assert_eq!(root.at(path), None, "{path}");
        }
    }

    #[test]
    fn folders_are_printed_whole() {
        let root = Entry::of(&facts());
        let account = root.at("instance/service-accounts/default").unwrap();
        let expected = json!({"aliases": ["default"], "email": "a@b", "scopes": ["x", "y"]});
        assert_eq!(account.json(), expected);
        let json = root.json();
        assert_eq!(
            json["instance"]["machineType"],
            "projects/415104041262/machineTypes/e2-medium"
        );
        assert_eq!(
            json["instance"]["attributes"]["startup-script"],
            "#!/bin/sh\n"
        );
        assert_eq!(
            json["instance"]["networkInterfaces"][0]["accessConfigs"],
            json!([])
        );
        let disks = root.at("instance/disks").unwrap().lines();
        assert!(
            disks.starts_with("0/device-name persistent-disk-0\n0/index 0\n"),
            "{disks}"
        );
    }
}
