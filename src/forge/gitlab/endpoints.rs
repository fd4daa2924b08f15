//! Endpoints, or parameters of them, that the `gitlab` crate doesn't have.

use ::gitlab::api::endpoint_prelude::*;
use ::gitlab::api::projects::jobs::CancelJob;

/// The most entries a page holds. <https://docs.gitlab.com/api/rest/#pagination>
const PER_PAGE: u64 = 100;

/// One page of a list. The crate has none by its number.
pub(super) struct Page<'a, E> {
    pub(super) endpoint: &'a E,
    pub(super) number: u64,
}

impl<E: Endpoint + Pageable> Endpoint for Page<'_, E> {
    fn method(&self) -> Method {
        self.endpoint.method()
    }

    fn endpoint(&self) -> Cow<'static, str> {
        self.endpoint.endpoint()
    }

    fn parameters(&self) -> QueryParams<'_> {
        let mut parameters = self.endpoint.parameters();
        parameters
            .push("per_page", PER_PAGE)
            .push("page", self.number);
        parameters
    }
}

/// The cancellation of a job that is in the middle of one already. The crate's lacks `force`.
/// <https://docs.gitlab.com/api/jobs/#cancel-a-job>
pub(super) struct CancelByForce<'a>(pub(super) CancelJob<'a>);

impl Endpoint for CancelByForce<'_> {
    fn method(&self) -> Method {
        self.0.method()
    }

    fn endpoint(&self) -> Cow<'static, str> {
        self.0.endpoint()
    }

    fn parameters(&self) -> QueryParams<'_> {
        let mut parameters = QueryParams::default();
        parameters.push("force", true);
        parameters
    }
}

/// The server's version, which the crate doesn't ask for.
/// <https://docs.gitlab.com/api/version/>
pub(super) struct ServerVersion;

impl Endpoint for ServerVersion {
    fn method(&self) -> Method {
        Method::GET
    }

    fn endpoint(&self) -> Cow<'static, str> {
        "version".into()
    }
}

#[cfg(test)]
mod tests {
    use ::gitlab::api::groups::runners::GroupRunners;
    use ::gitlab::api::runners::RunnerStatus;
    use url::Url;

    use super::*;

    fn address(endpoint: &impl Endpoint) -> String {
        let mut url = Url::parse("https://example.com/").unwrap();
        url = url.join(&endpoint.endpoint()).unwrap();
        endpoint.parameters().add_to_url(&mut url);
        format!("{} {url}", endpoint.method())
    }

    #[test]
    fn a_page_keeps_its_list_s_filters() {
        let list = GroupRunners::builder()
            .group("a/b")
            .status(RunnerStatus::Online)
            .tags(["x", "y"].into_iter())
            .build()
            .unwrap();
        let page = Page {
            endpoint: &list,
            number: 3,
        };
        assert_eq!(
            address(&page),
            "GET https://example.com/groups/a%2Fb/runners?status=online&tag_list=x%2Cy&per_page=100&page=3"
        );
    }

    #[test]
    fn a_cancellation_can_be_by_force() {
        let cancel = CancelJob::builder().project("a/b").job(7).build().unwrap();
        assert_eq!(
            address(&CancelByForce(cancel)),
            "POST https://example.com/projects/a%2Fb/jobs/7/cancel?force=true"
        );
    }
}
