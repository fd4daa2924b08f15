//! Which address means what.

use http::Method;

/// What is asked of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    RateLimit,
    User,
    CreateInstallationToken,
    GetInstallation,
    GetRepository,
    GetOrganization,
    ListRunners,
    GetRunner,
    DeleteRunner,
    CreateRegistrationToken,
    CreateRemoveToken,
    GenerateJitConfig,
    ListDownloads,
    GetRelease,
    ListRuns,
    GetRun,
    ListJobs,
    CancelRun,
    ForceCancelRun,
    Rerun,
    RerunFailedJobs,
}

/// Below which addresses an endpoint lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Below {
    Root,
    Repository,
    Organization,
    RepositoryOrOrganization,
}

use Below::{Organization, Repository, RepositoryOrOrganization as Either, Root};
use Endpoint as E;

/// As <https://docs.github.com/en/rest> has them.
const ROUTES: &[(&str, Below, &str, Endpoint)] = &[
    ("GET", Root, "/rate_limit", E::RateLimit),
    ("GET", Root, "/user", E::User),
    (
        "POST",
        Root,
        "/app/installations/{installation_id}/access_tokens",
        E::CreateInstallationToken,
    ),
    ("GET", Either, "/installation", E::GetInstallation),
    ("GET", Repository, "", E::GetRepository),
    ("GET", Organization, "", E::GetOrganization),
    ("GET", Either, "/actions/runners", E::ListRunners),
    (
        "GET",
        Either,
        "/actions/runners/downloads",
        E::ListDownloads,
    ),
    (
        "POST",
        Either,
        "/actions/runners/registration-token",
        E::CreateRegistrationToken,
    ),
    (
        "POST",
        Either,
        "/actions/runners/remove-token",
        E::CreateRemoveToken,
    ),
    (
        "POST",
        Either,
        "/actions/runners/generate-jitconfig",
        E::GenerateJitConfig,
    ),
    ("GET", Either, "/actions/runners/{runner_id}", E::GetRunner),
    (
        "DELETE",
        Either,
        "/actions/runners/{runner_id}",
        E::DeleteRunner,
    ),
    ("GET", Repository, "/releases/tags/{tag}", E::GetRelease),
    ("GET", Repository, "/actions/runs", E::ListRuns),
    ("GET", Repository, "/actions/runs/{run_id}", E::GetRun),
    (
        "GET",
        Repository,
        "/actions/runs/{run_id}/jobs",
        E::ListJobs,
    ),
    (
        "POST",
        Repository,
        "/actions/runs/{run_id}/cancel",
        E::CancelRun,
    ),
    (
        "POST",
        Repository,
        "/actions/runs/{run_id}/force-cancel",
        E::ForceCancelRun,
    ),
    ("POST", Repository, "/actions/runs/{run_id}/rerun", E::Rerun),
    (
        "POST",
        Repository,
        "/actions/runs/{run_id}/rerun-failed-jobs",
        E::RerunFailedJobs,
    ),
];

/// An address, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// `GET /repos/{owner}/{repo}/actions/runners/{runner_id}`; the address itself where there is
    /// no such endpoint.
    pub(super) name: String,
    pub(super) endpoint: Option<Endpoint>,
    /// The repository or organisation.
    pub(super) scope: String,
    /// The value of the last placeholder.
    pub(super) argument: String,
}

impl Route {
    /// The placeholder's value as a number.
    pub(super) fn id(&self) -> Option<u64> {
        self.argument.parse().ok()
    }
}

/// Understands a path without the prefix of GitHub Enterprise Server.
pub(super) fn route(method: &Method, path: &str) -> Route {
    let (place, scope, rest) = split(path);
    for (verb, below, pattern, endpoint) in ROUTES {
        let in_place = match below {
            Either => matches!(place, Repository | Organization),
            below => *below == place,
        };
        if method.as_str() != *verb || !in_place {
            continue;
        }
        if let Some(argument) = fits(pattern, rest) {
            let prefix = match place {
                Repository => "/repos/{owner}/{repo}",
                Organization => "/orgs/{org}",
                _ => "",
            };
            return Route {
                name: format!("{verb} {prefix}{pattern}"),
                endpoint: Some(*endpoint),
                // Names are the same in any case.
                scope: scope.to_ascii_lowercase(),
                argument: argument.into(),
            };
        }
    }
    Route {
        name: format!("{method} {path}"),
        endpoint: None,
        scope: String::new(),
        argument: String::new(),
    }
}

/// The place, the repository or organisation, and what comes behind it.
fn split(path: &str) -> (Below, &str, &str) {
    let end_of_segment = |text: &str| text.find('/').unwrap_or(text.len());
    if let Some(rest) = path.strip_prefix("/repos/") {
        let owner = end_of_segment(rest);
        if let Some(behind) = rest.get(owner + 1..) {
            let (scope, rest) = rest.split_at(owner + 1 + end_of_segment(behind));
            return (Repository, scope, rest);
        }
    }
    if let Some(rest) = path.strip_prefix("/orgs/") {
        let (scope, rest) = rest.split_at(end_of_segment(rest));
        return (Organization, scope, rest);
    }
    (Root, "", path)
}

/// The placeholder's value (empty without one), when the path has the pattern's form.
fn fits<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    let mut argument = "";
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(argument),
            (Some(wanted), Some(given)) if wanted.starts_with('{') => argument = given,
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood() {
        for (method, path, name, scope, argument) in [
            ("GET", "/user", "GET /user", "", ""),
            ("GET", "/repos/a/b", "GET /repos/{owner}/{repo}", "a/b", ""),
            (
                "GET",
                "/repos/a/b/actions/runners",
                "GET /repos/{owner}/{repo}/actions/runners",
                "a/b",
                "",
            ),
            (
                "GET",
                "/orgs/a/actions/runners/downloads",
                "GET /orgs/{org}/actions/runners/downloads",
                "a",
                "",
            ),
            (
                "DELETE",
                "/orgs/a/actions/runners/7",
                "DELETE /orgs/{org}/actions/runners/{runner_id}",
                "a",
                "7",
            ),
            (
                "POST",
                "/app/installations/3/access_tokens",
                "POST /app/installations/{installation_id}/access_tokens",
                "",
                "3",
            ),
        ] {
            let route = route(&method.parse().unwrap(), path);
            assert!(route.endpoint.is_some(), "{path}");
            assert_eq!(
                (
                    route.name.as_str(),
                    route.scope.as_str(),
                    route.argument.as_str()
                ),
                (name, scope, argument)
            );
        }
    }

    #[test]
    fn other_addresses_are_not() {
        for (method, path) in [
            ("POST", "/user"),
            ("GET", "/repos/a"),
            ("GET", "/repos/a/b/"),
            ("GET", "/repos/a/b/actions/runners/7/x"),
            ("GET", "/orgs/a/actions/runs"),
        ] {
            let route = route(&method.parse().unwrap(), path);
            assert_eq!(route.endpoint, None, "{path}");
            assert_eq!(route.name, format!("{method} {path}"));
        }
    }
}
