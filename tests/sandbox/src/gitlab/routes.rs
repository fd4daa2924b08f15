//! Which address means what.

use http::Method;

/// What is asked of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Version,
    User,
    Token,
    Project,
    Group,
    ProjectRunners,
    GroupRunners,
    CreateRunner,
    RegisterRunner,
    DeleteOwnRunner,
    VerifyRunner,
    GetRunner,
    UpdateRunner,
    DeleteRunner,
    RunnerJobs,
    ListJobs,
    GetJob,
    JobTrace,
    CancelJob,
    RetryJob,
    ListPipelines,
    GetPipeline,
    PipelineJobs,
    CancelPipeline,
    RetryPipeline,
    RequestJob,
    UpdateJob,
    AppendTrace,
    TellEnvironment,
    TellContainer,
}

use Endpoint as E;

/// As <https://docs.gitlab.com/api/api_resources/> has them.
const ROUTES: &[(&str, &str, Endpoint)] = &[
    ("GET", "/version", E::Version),
    ("GET", "/metadata", E::Version),
    ("GET", "/user", E::User),
    ("GET", "/personal_access_tokens/self", E::Token),
    ("GET", "/projects/:id", E::Project),
    ("GET", "/groups/:id", E::Group),
    ("GET", "/projects/:id/runners", E::ProjectRunners),
    ("GET", "/groups/:id/runners", E::GroupRunners),
    ("POST", "/user/runners", E::CreateRunner),
    ("POST", "/runners", E::RegisterRunner),
    ("DELETE", "/runners", E::DeleteOwnRunner),
    ("POST", "/runners/verify", E::VerifyRunner),
    ("GET", "/runners/:id", E::GetRunner),
    ("PUT", "/runners/:id", E::UpdateRunner),
    ("DELETE", "/runners/:id", E::DeleteRunner),
    ("GET", "/runners/:id/jobs", E::RunnerJobs),
    ("GET", "/projects/:id/jobs", E::ListJobs),
    ("GET", "/projects/:id/jobs/:job_id", E::GetJob),
    ("GET", "/projects/:id/jobs/:job_id/trace", E::JobTrace),
    ("POST", "/projects/:id/jobs/:job_id/cancel", E::CancelJob),
    ("POST", "/projects/:id/jobs/:job_id/retry", E::RetryJob),
    ("GET", "/projects/:id/pipelines", E::ListPipelines),
    (
        "GET",
        "/projects/:id/pipelines/:pipeline_id",
        E::GetPipeline,
    ),
    (
        "GET",
        "/projects/:id/pipelines/:pipeline_id/jobs",
        E::PipelineJobs,
    ),
    (
        "POST",
        "/projects/:id/pipelines/:pipeline_id/cancel",
        E::CancelPipeline,
    ),
    (
        "POST",
        "/projects/:id/pipelines/:pipeline_id/retry",
        E::RetryPipeline,
    ),
    // The runner program's own.
    ("POST", "/jobs/request", E::RequestJob),
    ("PUT", "/jobs/:id", E::UpdateJob),
    ("PATCH", "/jobs/:id/trace", E::AppendTrace),
    // The sandbox's: what its stand-in for the runner program tells beside that.
    ("POST", "/jobs/:id/environment", E::TellEnvironment),
    ("POST", "/jobs/:id/container", E::TellContainer),
];

impl Endpoint {
    /// Whether it is for the runner program, which proves itself in its own ways.
    pub(super) fn is_for_program(self) -> bool {
        matches!(
            self,
            E::RequestJob | E::UpdateJob | E::AppendTrace | E::TellEnvironment | E::TellContainer
        )
    }
}

/// An address, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// `GET /projects/:id/runners`; the address itself where there is no such endpoint.
    pub(super) name: String,
    pub(super) endpoint: Option<Endpoint>,
    /// Whether the address exists with another method.
    pub(super) other_method: bool,
    /// The placeholders' values, decoded.
    pub(super) ids: Vec<String>,
}

impl Route {
    /// The first placeholder's value: an id or a path.
    pub(super) fn first(&self) -> &str {
        self.ids.first().map_or("", String::as_str)
    }

    /// The second placeholder's value, which is a number.
    pub(super) fn second(&self) -> Option<u64> {
        self.ids.get(1)?.parse().ok()
    }
}

/// Understands a path below `/api/v4`.
pub(super) fn route(method: &Method, path: &str) -> Route {
    let mut other_method = false;
    for (verb, pattern, endpoint) in ROUTES {
        let Some(ids) = fits(pattern, path) else {
            continue;
        };
        if method.as_str() == *verb {
            return Route {
                name: format!("{verb} {pattern}"),
                endpoint: Some(*endpoint),
                other_method: false,
                ids,
            };
        }
        other_method = true;
    }
    Route {
        name: format!("{method} {path}"),
        endpoint: None,
        other_method,
        ids: Vec::new(),
    }
}

/// The placeholders' values, when the path has the pattern's form.
fn fits(pattern: &str, path: &str) -> Option<Vec<String>> {
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    let mut ids = Vec::new();
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(ids),
            (Some(wanted), Some(given)) if wanted.starts_with(':') && !given.is_empty() => {
                ids.push(decode(given)?);
            }
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return None,
        }
    }
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let value = digit(rest.next())? * 16 + digit(rest.next())?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood() {
        for (method, path, name, ids) in [
            ("GET", "/user", "GET /user", vec![]),
            (
                "GET",
                "/projects/octo%2Fteam%2frepo/runners",
                "GET /projects/:id/runners",
                vec!["octo/team/repo"],
            ),
            ("DELETE", "/runners", "DELETE /runners", vec![]),
            ("DELETE", "/runners/7", "DELETE /runners/:id", vec!["7"]),
            (
                "POST",
                "/projects/3/pipelines/9/retry",
                "POST /projects/:id/pipelines/:pipeline_id/retry",
                vec!["3", "9"],
            ),
            ("POST", "/jobs/request", "POST /jobs/request", vec![]),
            ("PUT", "/jobs/5", "PUT /jobs/:id", vec!["5"]),
        ] {
            let route = route(&method.parse().unwrap(), path);
            assert_eq!(
                (route.name.as_str(), route.ids),
                (name, ids.iter().map(|id| (*id).to_owned()).collect())
            );
        }
    }

    #[test]
    fn other_addresses_are_not() {
        for (method, path, other_method) in [
            ("POST", "/user", true),
            ("GET", "/projects/octo/repo/runners", false),
            ("GET", "/projects/", false),
            ("GET", "/projects/%zz", false),
            ("PUT", "/runners", true),
        ] {
            let route = route(&method.parse().unwrap(), path);
            assert_eq!(route.endpoint, None, "{path}");
            assert_eq!(route.other_method, other_method, "{path}");
        }
    }
}
