//! What the user asks of Kubernetes, in its words, and what is wrong with it.

use std::collections::BTreeMap;

use super::labels;
use super::sizes::{self, Size};
use super::template::Template;
use crate::cloud::{Arch, asked};
use crate::spec::InstanceSpec;

/// How much a pod may write on its node, in GB, where the user doesn't say.
const DISK_GB: u32 = 35;

/// The label of a node that tells its architecture.
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-arch>
pub(super) const ARCH_LABEL: &str = "kubernetes.io/arch";
/// The label that tells its operating system: some clusters have nodes with Windows, too.
pub(super) const OS_LABEL: &str = "kubernetes.io/os";
/// The label that tells a node's GPU, where the user names no other.
const GPU_LABEL: &str = "accelerator";
/// Stands for the GPU's model.
const INFER: &str = "infer";

/// Everything asked, checked as far as that can be done without asking the cluster.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) sizes: Vec<Size>,
    pub(super) arch: Arch,
    pub(super) image: String,
    pub(super) disk_gb: u32,
    /// Labels that the node must have.
    pub(super) selector: Vec<(String, String)>,
    /// The user's labels and annotations.
    pub(super) metadata: BTreeMap<String, String>,
    /// The service account that the pod has.
    pub(super) account: Option<String>,
    pub(super) privileged: bool,
    pub(super) template: Template,
    pub(super) warnings: Vec<String>,
}

impl Asked {
    /// Reads a specification; complaints start with their option's name.
    pub(super) fn read(spec: &InstanceSpec) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        let mut warnings = Vec::new();
        let sizes = asked::types(spec, sizes::native, &mut mistakes, &mut warnings);
        let image = spec
            .image
            .clone()
            .unwrap_or_else(|| spec.runner_image.clone());
        if image.is_empty() || image.contains(|c: char| c.is_whitespace() || c.is_control()) {
            mistakes.push(format!(
                "--cloud-image: `{}` is no image such as ubuntu:24.04",
                image.escape_debug()
            ));
        }
        let metadata = labels::read(&spec.metadata, &mut mistakes);
        let selector = selector(spec, &mut mistakes);
        let account = account(spec, &mut mistakes);
        let template = spec.kubernetes_pod_template.as_deref().map(Template::read);
        let template = template.transpose().unwrap_or_else(|complaints| {
            mistakes.extend(complaints);
            None
        });
        let template = template.unwrap_or_default();
        let arch = arch(&selector, &template, &mut mistakes);
        if template.is_locked_out() {
            mistakes.push(
                "--cloud-kubernetes-pod-template: a runAsUser that isn't root's needs an fsGroup in the \
                 pod's securityContext, to read its registration"
                    .to_owned(),
            );
        }
        if let (Some(account), Some(other)) = (&account, template.service_account())
            && account != other
        {
            mistakes.push(format!(
                "--cloud-permission-set: {account} isn't the template's serviceAccountName, {other}"
            ));
        }
        if spec.spot.is_some() {
            warnings.push(
                "--cloud-spot has no effect on Kubernetes: choose nodes of that kind by \
                 --cloud-kubernetes-node-selector, and their tolerations by \
                 --cloud-kubernetes-pod-template"
                    .to_owned(),
            );
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Self {
            sizes,
            arch,
            image,
            disk_gb: spec.disk_gb.unwrap_or(DISK_GB),
            selector,
            metadata,
            account,
            privileged: spec.kubernetes_privileged,
            template,
            warnings,
        })
    }

    /// The node that a pod of this size needs.
    pub(super) fn node_selector(&self, size: &Size) -> BTreeMap<String, String> {
        let mut selector: BTreeMap<String, String> = self
            .selector
            .iter()
            .filter_map(|(key, value)| match (value.as_str(), &size.gpus) {
                (INFER, Some(gpus)) => Some((key.clone(), gpus.model.clone())),
                (INFER, None) => None,
                _ => Some((key.clone(), value.clone())),
            })
            .collect();
        selector
            .entry(ARCH_LABEL.to_owned())
            .or_insert_with(|| label(self.arch).to_owned());
        selector
            .entry(OS_LABEL.to_owned())
            .or_insert_with(|| "linux".to_owned());
        selector
    }

    /// The service account, the user's or the template's.
    pub(super) fn service_account(&self) -> Option<&str> {
        self.account.as_deref().or(self.template.service_account())
    }
}

/// The architecture's name in labels of nodes.
fn label(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "amd64",
        Arch::Aarch64 => "arm64",
    }
}

fn selector(spec: &InstanceSpec, mistakes: &mut Vec<String>) -> Vec<(String, String)> {
    let Some(given) = &spec.kubernetes_node_selector else {
        return vec![(GPU_LABEL.to_owned(), INFER.to_owned())];
    };
    for (key, value) in given {
        labels::check("--cloud-kubernetes-node-selector", key, value, mistakes);
    }
    given.clone()
}

fn account(spec: &InstanceSpec, mistakes: &mut Vec<String>) -> Option<String> {
    let account = spec.permission_set.as_deref()?;
    if !labels::is_domain(account) || account.len() > 253 {
        mistakes.push(format!(
            "--cloud-permission-set: `{account}` is no name of a service account"
        ));
    }
    Some(account.to_owned())
}

/// A job's architecture must not depend on where there is room just now: it is fixed.
fn arch(selector: &[(String, String)], template: &Template, mistakes: &mut Vec<String>) -> Arch {
    let given = selector.iter().find(|(key, _)| key == ARCH_LABEL);
    let given = given.map(|(_, value)| value.as_str());
    let templates = template.node_label(ARCH_LABEL);
    if given.is_some() && templates.is_some() && given != templates {
        mistakes.push(format!(
            "--cloud-kubernetes-node-selector: its {ARCH_LABEL} isn't that of the template"
        ));
    }
    match given.or(templates) {
        None => Arch::X86_64,
        Some(text) => {
            let known = Arch::ALL.into_iter().find(|arch| label(*arch) == text);
            known.unwrap_or_else(|| {
                mistakes.push(format!(
                    "--cloud-kubernetes-node-selector: {ARCH_LABEL}={text}: this program runs on \
                     amd64 and arm64"
                ));
                Arch::X86_64
            })
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::spec::{Gpu, Provider};

    pub(in crate::cloud::kubernetes) fn spec() -> InstanceSpec {
        InstanceSpec::example(Provider::Kubernetes)
    }

    fn asked(change: impl FnOnce(&mut InstanceSpec)) -> Result<Asked, Vec<String>> {
        let mut spec = spec();
        change(&mut spec);
        Asked::read(&spec)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_option() {
        let mistakes = asked(|spec| {
            spec.types = vec!["huge".into()];
            spec.image = Some("a b".into());
            spec.metadata = pairs(&[("a b", "c")]);
            spec.kubernetes_node_selector =
                Some(pairs(&[("kubernetes.io/arch", "s390x"), ("x", "y z")]));
            spec.permission_set = Some("Not One".into());
            spec.kubernetes_pod_template =
                Some("spec:\n  tolerationz: []\n  restartPolicy: Always\n".into());
        })
        .unwrap_err();
        let expected = [
            "--cloud-type: `huge`",
            "--cloud-image: `a b`",
            "--cloud-metadata: the key `a b`",
            "--cloud-kubernetes-node-selector: the value of `x`",
            "--cloud-permission-set: `Not One`",
            "--cloud-kubernetes-pod-template: its restartPolicy",
            "--cloud-kubernetes-node-selector: kubernetes.io/arch=s390x",
        ];
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
        for (mistake, expected) in mistakes.iter().zip(expected) {
            assert!(mistake.starts_with(expected), "{mistake}");
        }
    }

    #[test]
    fn the_node_has_the_gpu_and_the_architecture() {
        let selector = |change: fn(&mut InstanceSpec)| {
            let asked = asked(change).unwrap();
            let selector = asked.node_selector(&asked.sizes[0]);
            let pairs = selector
                .into_iter()
                .map(|(key, value)| format!("{key}={value}"));
            pairs.collect::<Vec<_>>()
        };
        assert_eq!(
            selector(|_| ()),
            ["kubernetes.io/arch=amd64", "kubernetes.io/os=linux"]
        );
        assert_eq!(
            selector(|spec| spec.gpu = Some(Gpu::Model("t4".into()))),
            [
                "accelerator=t4",
                "kubernetes.io/arch=amd64",
                "kubernetes.io/os=linux"
            ]
        );
        assert_eq!(
            selector(|spec| {
                spec.types = vec!["4-16000+nvidia-tesla-t4*2".into()];
                spec.kubernetes_node_selector = Some(vec![
                    ("cloud.google.com/gke-accelerator".into(), "infer".into()),
                    ("kubernetes.io/arch".into(), "arm64".into()),
                ]);
            }),
            [
                "cloud.google.com/gke-accelerator=nvidia-tesla-t4",
                "kubernetes.io/arch=arm64",
                "kubernetes.io/os=linux"
            ]
        );
    }
}
