//! What a request is about, by its path. Paths are the same in any case, but for values that the
//! caller chose, which are shown as they were first given.
//! <https://learn.microsoft.com/en-us/azure/azure-resource-manager/management/resource-name-rules>

use http::Method;

use crate::entra::SUBSCRIPTION;

/// A kind of resource that lies in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    VirtualMachine,
    Disk,
    Image,
    Gallery,
    NetworkSecurityGroup,
    VirtualNetwork,
    NetworkInterface,
    PublicIpAddress,
    UserAssignedIdentity,
}

const KINDS: &[(Kind, &str, &str)] = &[
    (Kind::VirtualMachine, "Microsoft.Compute", "virtualMachines"),
    (Kind::Disk, "Microsoft.Compute", "disks"),
    (Kind::Image, "Microsoft.Compute", "images"),
    (Kind::Gallery, "Microsoft.Compute", "galleries"),
    (
        Kind::NetworkSecurityGroup,
        "Microsoft.Network",
        "networkSecurityGroups",
    ),
    (Kind::VirtualNetwork, "Microsoft.Network", "virtualNetworks"),
    (
        Kind::NetworkInterface,
        "Microsoft.Network",
        "networkInterfaces",
    ),
    (
        Kind::PublicIpAddress,
        "Microsoft.Network",
        "publicIPAddresses",
    ),
    (
        Kind::UserAssignedIdentity,
        "Microsoft.ManagedIdentity",
        "userAssignedIdentities",
    ),
];

impl Kind {
    fn entry(self) -> (Kind, &'static str, &'static str) {
        let own = KINDS.iter().find(|(kind, ..)| *kind == self);
        own.copied().unwrap_or(KINDS[0])
    }

    /// `Microsoft.Compute`.
    pub(super) fn provider(self) -> &'static str {
        self.entry().1
    }

    /// `virtualMachines`.
    pub(super) fn name(self) -> &'static str {
        self.entry().2
    }

    /// A resource's id.
    pub(super) fn id(self, group: &str, name: &str) -> String {
        format!(
            "{}/providers/{}/{}/{name}",
            group_id(group),
            self.provider(),
            self.name()
        )
    }

    fn find(provider: &str, name: &str) -> Option<Kind> {
        let same = |(_, p, n): &&(Kind, &str, &str)| {
            p.eq_ignore_ascii_case(provider) && n.eq_ignore_ascii_case(name)
        };
        Some(KINDS.iter().find(same)?.0)
    }
}

/// The subscription's id.
pub(super) fn subscription_id() -> String {
    format!("/subscriptions/{SUBSCRIPTION}")
}

/// A group's id.
pub(super) fn group_id(name: &str) -> String {
    format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{name}")
}

/// A resource's group, kind and name, and what follows these in its id.
pub(super) fn resource(id: &str) -> Option<(String, Kind, String, Vec<String>)> {
    match Route::of(id) {
        Route::Resource {
            group,
            kind,
            name,
            rest,
        } => Some((group, kind, name, rest)),
        _ => None,
    }
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Groups,
    Group(String),
    /// Where `Location` of a group's deletion leads.
    GroupOperation(String),
    Resource {
        group: String,
        kind: Kind,
        name: String,
        /// An action, or what lies within the resource.
        rest: Vec<String>,
    },
    InGroup(String, Kind),
    InSubscription(Kind),
    /// `Azure-AsyncOperation`: provider and id.
    Operation(&'static str, String),
    /// `Location` of the same.
    OperationResult(&'static str, String),
    Skus,
    /// Location, publisher, offer, SKU.
    ImageVersions([String; 4]),
    ImageVersion([String; 4], String),
    /// An image of somebody's gallery that is open to others: location, `communityGalleries` or
    /// `sharedGalleries`, gallery, image.
    OpenImage([String; 4]),
    Feature(String, String),
    /// Of a scope.
    Permissions(String),
    /// Scope and name.
    RoleAssignment(String, String),
    /// Namespace and type.
    UnknownType(String, String),
    OtherSubscription(String),
    Unknown,
}

impl Route {
    pub(super) fn of(path: &str) -> Route {
        let words: Vec<String> = path
            .trim_matches('/')
            .split('/')
            .map(percent_decoded)
            .collect();
        let is = |index: usize, word: &str| {
            words
                .get(index)
                .is_some_and(|found| found.eq_ignore_ascii_case(word))
        };
        let text = |index: usize| words.get(index).cloned().unwrap_or_default();
        if !is(0, "subscriptions") || words.len() < 2 {
            return Route::Unknown;
        }
        if !is(1, SUBSCRIPTION) {
            return Route::OtherSubscription(text(1));
        }
        let last = words
            .iter()
            .rposition(|word| word.eq_ignore_ascii_case("providers"));
        if let Some(at) = last.filter(|at| is(at + 1, "Microsoft.Authorization")) {
            let scope = format!("/{}", words[..at].join("/"));
            if is(at + 2, "permissions") && words.len() == at + 3 {
                return Route::Permissions(scope);
            }
            if is(at + 2, "roleAssignments") && words.len() == at + 4 {
                return Route::RoleAssignment(scope, text(at + 3));
            }
        }
        if is(2, "operationresults") && words.len() == 4 {
            return Route::GroupOperation(text(3));
        }
        if is(2, "resourcegroups") {
            return match words.len() {
                3 => Route::Groups,
                4 => Route::Group(text(3)),
                7.. if is(4, "providers") => match Kind::find(&words[5], &words[6]) {
                    Some(kind) if words.len() == 7 => Route::InGroup(text(3), kind),
                    Some(kind) => Route::Resource {
                        group: text(3),
                        kind,
                        name: text(7),
                        rest: words[8..].to_vec(),
                    },
                    None => Route::UnknownType(text(5), text(6)),
                },
                _ => Route::Unknown,
            };
        }
        if !is(2, "providers") || words.len() < 5 {
            return Route::Unknown;
        }
        in_subscription(&words)
    }

    /// The provider, the type, and how Azure says what is done to it, but for the verb.
    fn kind(&self) -> (&'static str, &'static str) {
        match self {
            Route::Groups | Route::Group(_) => ("Microsoft.Resources", "resourceGroups"),
            Route::GroupOperation(_) => ("Microsoft.Resources", "operationResults"),
            Route::Resource { kind, .. }
            | Route::InGroup(_, kind)
            | Route::InSubscription(kind) => (kind.provider(), kind.name()),
            Route::Operation(provider, _) => (provider, "operations"),
            Route::OperationResult(provider, _) => (provider, "operationResults"),
            Route::Skus => ("Microsoft.Compute", "skus"),
            Route::ImageVersions(_) | Route::ImageVersion(..) => ("Microsoft.Compute", "versions"),
            Route::OpenImage(_) => ("Microsoft.Compute", "galleries"),
            Route::Feature(..) => ("Microsoft.Features", "features"),
            Route::Permissions(_) => ("Microsoft.Authorization", "permissions"),
            Route::RoleAssignment(..) => ("Microsoft.Authorization", "roleAssignments"),
            Route::UnknownType(..) | Route::OtherSubscription(_) | Route::Unknown => {
                ("", "unknown")
            }
        }
    }

    /// The call's name in the record: `arm:PUT virtualMachines`, `arm:LIST resourceGroups`,
    /// `arm:POST retrieveBootDiagnosticsData`.
    pub(super) fn call(&self, method: &Method) -> String {
        let list = matches!(
            self,
            Route::Groups
                | Route::InGroup(..)
                | Route::InSubscription(_)
                | Route::Skus
                | Route::ImageVersions(_)
                | Route::Permissions(_)
        );
        let verb = match list && *method == Method::GET {
            true => "LIST",
            false => method.as_str(),
        };
        match self {
            Route::Resource { rest, .. } if *method == Method::POST => {
                format!("arm:{verb} {}", rest.first().map_or("", |action| action))
            }
            _ => format!("arm:{verb} {}", self.kind().1),
        }
    }

    /// What a role must allow for this call.
    /// <https://learn.microsoft.com/en-us/azure/role-based-access-control/resource-provider-operations>
    pub(super) fn action(&self, method: &Method) -> String {
        let (provider, name) = self.kind();
        let what = match self {
            Route::Groups | Route::Group(_) => "subscriptions/resourceGroups".into(),
            Route::GroupOperation(_) => "subscriptions/operationresults".into(),
            Route::Operation(..) | Route::OperationResult(..) => format!("locations/{name}"),
            Route::ImageVersions(_) | Route::ImageVersion(..) => {
                "locations/publishers/artifacttypes/offers/skus/versions".into()
            }
            Route::Feature(..) => "providers/features".into(),
            // Names stand at every second place.
            Route::Resource { rest, .. } => {
                let kinds = rest.iter().step_by(2).map(String::as_str);
                [name]
                    .into_iter()
                    .chain(kinds)
                    .collect::<Vec<_>>()
                    .join("/")
            }
            _ => name.to_owned(),
        };
        let verb = match *method {
            Method::GET => "read",
            Method::POST => "action",
            Method::DELETE => "delete",
            _ => "write",
        };
        format!("{provider}/{what}/{verb}")
    }

    /// The provider, the type, and the API's version that the sandbox knows of it.
    pub(super) fn version(&self) -> (&'static str, &'static str, &'static str) {
        let (provider, name) = self.kind();
        let version = match (provider, name) {
            (_, "skus") | ("Microsoft.Features", _) => "2021-07-01",
            ("Microsoft.Compute", "galleries") => "2024-03-03",
            ("Microsoft.Compute", _) => "2024-07-01",
            ("Microsoft.Network", _) => "2024-05-01",
            ("Microsoft.Authorization", _) => "2022-04-01",
            ("Microsoft.ManagedIdentity", _) => "2023-01-31",
            _ => "2021-04-01",
        };
        (provider, name, version)
    }
}

/// What lies in the subscription itself: `/subscriptions/ID/providers/NAMESPACE/…`.
fn in_subscription(words: &[String]) -> Route {
    let lower: Vec<String> = words[3..].iter().map(|word| word.to_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let text = |index: usize| words[3 + index].clone();
    match lower[..] {
        ["microsoft.compute", "skus"] => Route::Skus,
        [
            "microsoft.compute",
            "locations",
            _,
            "publishers",
            _,
            "artifacttypes",
            "vmimage",
            "offers",
            _,
            "skus",
            _,
            "versions",
            ref rest @ ..,
        ] => {
            let names = [text(2), text(4), text(8), text(10)];
            match rest {
                [] => Route::ImageVersions(names),
                [_] => Route::ImageVersion(names, text(12)),
                _ => Route::Unknown,
            }
        }
        [
            "microsoft.compute",
            "locations",
            _,
            "communitygalleries" | "sharedgalleries",
            _,
            "images",
            _,
        ] => Route::OpenImage([text(2), text(3), text(4), text(6)]),
        ["microsoft.compute", "locations", _, "operations", _] => {
            Route::Operation("Microsoft.Compute", text(4))
        }
        ["microsoft.network", "locations", _, "operations", _] => {
            Route::Operation("Microsoft.Network", text(4))
        }
        ["microsoft.compute", "locations", _, "operationresults", _] => {
            Route::OperationResult("Microsoft.Compute", text(4))
        }
        ["microsoft.network", "locations", _, "operationresults", _] => {
            Route::OperationResult("Microsoft.Network", text(4))
        }
        ["microsoft.features", "providers", _, "features", _] => Route::Feature(text(2), text(4)),
        [provider, name] => match Kind::find(provider, name) {
            Some(kind) => Route::InSubscription(kind),
            None => Route::UnknownType(text(0), text(1)),
        },
        [_, _, ..] => Route::UnknownType(text(0), text(1)),
        _ => Route::Unknown,
    }
}

fn percent_decoded(word: &str) -> String {
    // `+` is itself in a path.
    let word = word.replace('+', "%2B");
    url::form_urlencoded::parse(format!("x={word}").as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_actions() {
        let sub = subscription_id();
        let group = group_id("a");
        let machine = Kind::VirtualMachine.id("a", "b");
        let gallery = Kind::Gallery.id("a", "b");
        for (method, path, action) in [
            (
                Method::PUT,
                group.clone(),
                "Microsoft.Resources/subscriptions/resourceGroups/write",
            ),
            (
                Method::DELETE,
                group,
                "Microsoft.Resources/subscriptions/resourceGroups/delete",
            ),
            (
                Method::PUT,
                machine.clone(),
                "Microsoft.Compute/virtualMachines/write",
            ),
            (
                Method::GET,
                format!("{machine}/instanceView"),
                "Microsoft.Compute/virtualMachines/instanceView/read",
            ),
            (
                Method::POST,
                format!("{machine}/retrieveBootDiagnosticsData"),
                "Microsoft.Compute/virtualMachines/retrieveBootDiagnosticsData/action",
            ),
            (
                Method::GET,
                format!("{gallery}/images/x/versions/1.0.0"),
                "Microsoft.Compute/galleries/images/versions/read",
            ),
            (
                Method::GET,
                format!("{sub}/providers/Microsoft.Network/locations/westus2/operations/1"),
                "Microsoft.Network/locations/operations/read",
            ),
            (
                Method::GET,
                format!("{sub}/operationresults/abc"),
                "Microsoft.Resources/subscriptions/operationresults/read",
            ),
            (
                Method::PUT,
                format!("{machine}/providers/Microsoft.Authorization/roleAssignments/1"),
                "Microsoft.Authorization/roleAssignments/write",
            ),
        ] {
            assert_eq!(Route::of(&path).action(&method), action, "{path}");
        }
    }

    #[test]
    fn paths_lead_where_they_should() {
        let sub = subscription_id();
        let get = |path: &str| Route::of(&format!("{sub}{path}")).call(&Method::GET);
        for (path, call) in [
            ("/resourcegroups", "arm:LIST resourceGroups"),
            ("/resourceGroups/a", "arm:GET resourceGroups"),
            ("/operationresults/abc", "arm:GET operationResults"),
            (
                "/resourceGroups/a/providers/microsoft.compute/virtualmachines/b",
                "arm:GET virtualMachines",
            ),
            (
                "/resourceGroups/a/providers/Microsoft.Compute/virtualMachines/b/instanceView",
                "arm:GET virtualMachines",
            ),
            (
                "/providers/Microsoft.Compute/virtualMachines",
                "arm:LIST virtualMachines",
            ),
            ("/providers/Microsoft.Compute/skus", "arm:LIST skus"),
            (
                "/providers/Microsoft.Compute/locations/westus2/publishers/Canonical/artifacttypes/\
                 vmimage/offers/ubuntu-24_04-lts/skus/server/versions",
                "arm:LIST versions",
            ),
            (
                "/providers/Microsoft.Compute/locations/westus2/communityGalleries/g/images/i",
                "arm:GET galleries",
            ),
            (
                "/providers/Microsoft.Compute/locations/westus2/operations/1",
                "arm:GET operations",
            ),
            (
                "/providers/Microsoft.Features/providers/Microsoft.Compute/features/X",
                "arm:GET features",
            ),
            (
                "/providers/Microsoft.Authorization/permissions",
                "arm:LIST permissions",
            ),
            (
                "/resourceGroups/a/providers/Microsoft.Authorization/roleAssignments/1",
                "arm:GET roleAssignments",
            ),
            ("/providers/Microsoft.Web/sites", "arm:GET unknown"),
        ] {
            assert_eq!(get(path), call, "{path}");
        }
        let other = Route::of("/subscriptions/x/resourceGroups");
        assert_eq!(other, Route::OtherSubscription("x".into()));
        let of_group = Route::of(&format!(
            "{sub}/resourceGroups/a/providers/Microsoft.Compute/virtualMachines/b/providers/\
             Microsoft.Authorization/roleAssignments/1"
        ));
        let scope = Kind::VirtualMachine.id("a", "b");
        assert_eq!(of_group, Route::RoleAssignment(scope, "1".into()));
    }
}
