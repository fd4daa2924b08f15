//! The cloud that is measured.

use sandbox::{Process, Sandbox};

/// A cloud, and what is peculiar to a launch there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cloud {
    Aws,
    Gcp,
    Azure,
    Kubernetes,
}

/// The least number of serial round trips until an instance exists, and why it is that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Floor {
    pub(crate) warm: f64,
    pub(crate) cold: f64,
    /// What has to be made besides the instance when all is new.
    pub(crate) cold_note: &'static str,
}

impl Cloud {
    /// By the name that `--cloud` has for it.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Cloud::Aws, Cloud::Gcp, Cloud::Azure, Cloud::Kubernetes]
            .into_iter()
            .find(|cloud| cloud.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Cloud::Aws => "aws",
            Cloud::Gcp => "gcp",
            Cloud::Azure => "azure",
            Cloud::Kubernetes => "kubernetes",
        }
    }

    /// The service that makes instances, as calls name it.
    pub(crate) fn service(self) -> &'static str {
        match self {
            Cloud::Aws => "ec2",
            Cloud::Gcp => "compute",
            Cloud::Azure => "arm",
            Cloud::Kubernetes => "kubernetes",
        }
    }

    /// How many of the least round trips don't go to that service: the registration, and on Azure
    /// the sign-in.
    pub(crate) fn elsewhere(self) -> f64 {
        match self {
            Cloud::Aws | Cloud::Gcp | Cloud::Kubernetes => 1.0,
            Cloud::Azure => 2.0,
        }
    }

    /// The call after whose answer an instance exists.
    pub(crate) fn creation(self) -> &'static str {
        match self {
            Cloud::Aws => "ec2:RunInstances",
            Cloud::Gcp => "compute:instances.insert",
            Cloud::Azure => "arm:PUT virtualMachines",
            // The pod is there before, and waits for it.
            Cloud::Kubernetes => "create secrets",
        }
    }

    /// The state of an instance that is up.
    pub(crate) fn running(self) -> &'static str {
        match self {
            Cloud::Aws | Cloud::Azure => "running",
            Cloud::Gcp => "RUNNING",
            Cloud::Kubernetes => "Running",
        }
    }

    /// The forge and the cloud are looked at; a runner is registered, when both looks say that it
    /// may be; an instance is made, which is given the registration. Where all is new, what all
    /// instances share is made before: one call, and on Google Cloud another that waits for it. On
    /// Azure nothing is shared: the group, and then the networks, which have to be ready, are made
    /// before each machine; and all begins with a token. On Kubernetes nothing is shared, and the Job
    /// is made while the runner is registered; the Secret with the registration belongs to the Job.
    pub(crate) fn floor(self) -> Floor {
        match self {
            Cloud::Aws => Floor {
                warm: 3.0,
                cold: 4.0,
                cold_note: "floor: as above, and the shared security group is made before the instance",
            },
            Cloud::Gcp => Floor {
                warm: 3.0,
                cold: 5.0,
                cold_note: "floor: as above, and the shared network is made, and waited for, before the instance",
            },
            Cloud::Azure => Floor {
                warm: 7.0,
                cold: 7.0,
                cold_note: "floor: as above: a token; the group; its networks, which are waited for; the machine",
            },
            Cloud::Kubernetes => Floor {
                warm: 3.0,
                cold: 3.0,
                cold_note: "floor: as above: nothing is made besides the Job and its Secret",
            },
        }
    }

    /// The ids of the instances that live.
    pub(crate) fn live(self, sandbox: &Sandbox) -> Vec<String> {
        match self {
            Cloud::Aws => sandbox
                .ec2()
                .live()
                .into_iter()
                .map(|view| view.id)
                .collect(),
            Cloud::Gcp => sandbox
                .gce()
                .live()
                .into_iter()
                .map(|view| view.name)
                .collect(),
            Cloud::Azure => sandbox
                .azure()
                .live()
                .into_iter()
                .map(|view| view.name)
                .collect(),
            Cloud::Kubernetes => sandbox
                .kubernetes()
                .live()
                .into_iter()
                .map(|view| view.name)
                .collect(),
        }
    }

    pub(crate) fn processes(self, sandbox: &Sandbox, instance: &str) -> Vec<Process> {
        match self {
            Cloud::Aws => sandbox.ec2().processes(instance),
            Cloud::Gcp => sandbox.gce().processes(instance),
            Cloud::Azure => sandbox.azure().processes(instance),
            Cloud::Kubernetes => sandbox.kubernetes().processes(instance),
        }
    }
}
