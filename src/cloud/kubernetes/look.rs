//! What a launch depends on, asked all at once. Changes nothing.

use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;

use super::asked::Asked;
use super::body;
use super::client::{Cluster, Effect};
use super::refusal;
use super::views::{Job, ServiceAccount};
use crate::cloud::{Order, StopFlag};
use crate::error::{Error, Kind, Result};

/// A permission: the API group, the resource, the verb.
type Permission = (&'static str, &'static str, &'static str);

/// What a launch can't do without, from the beginning to the rollback. The README's Role has no
/// more.
const NEEDED: [Permission; 9] = [
    ("batch", "jobs", "create"),
    ("batch", "jobs", "get"),
    ("batch", "jobs", "list"),
    ("batch", "jobs", "watch"),
    ("batch", "jobs", "patch"),
    ("batch", "jobs", "delete"),
    ("", "secrets", "create"),
    ("", "pods", "list"),
    ("", "pods", "watch"),
];

/// What only explains why a runner doesn't start.
const EXPLAINING: [Permission; 3] = [
    ("", "pods/log", "get"),
    ("", "events", "list"),
    ("", "events", "watch"),
];

/// Whether all that is to be done may be done, and whether the service account is there; the answer
/// is the warnings.
pub(super) async fn wave(cluster: &Cluster, asked: &Asked) -> Result<Vec<String>> {
    let permissions = NEEDED.iter().chain(&EXPLAINING);
    let reviews = permissions.map(|permission| is_allowed(cluster, permission));
    let (reviews, account, job) = tokio::join!(
        join_all(reviews),
        check_account(cluster, asked.service_account()),
        check_job(cluster, asked)
    );
    let mut denied = Vec::new();
    let mut warnings = Vec::new();
    for (permission, review) in NEEDED.iter().chain(&EXPLAINING).zip(reviews) {
        match review? {
            Some(false) if EXPLAINING.contains(permission) => warnings.push(format!(
                "{} isn't allowed: should the runner not start, its events or its log aren't shown",
                words(permission)
            )),
            Some(false) => denied.push(words(permission)),
            Some(true) | None => {}
        }
    }
    if !denied.is_empty() {
        let error = Error::new(
            Kind::Denied,
            format!("looking at the namespace {}", cluster.namespace),
        );
        let error = error.caused_by(format!("not allowed there: {}", denied.join(", ")));
        return Err(error.hint(refusal::ROLE));
    }
    warnings.extend(account?);
    job?;
    Ok(warnings)
}

fn words((_, resource, verb): &Permission) -> String {
    format!("{verb} {resource}")
}

/// What the cluster's own access review says; `None`: reviews aren't to be had, and the calls
/// themselves will tell.
/// <https://kubernetes.io/docs/reference/kubernetes-api/authorization-resources/self-subject-access-review-v1/>
async fn is_allowed(
    cluster: &Cluster,
    (group, resource, verb): &Permission,
) -> Result<Option<bool>> {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, part)) => (resource, Some(part.to_owned())),
        None => (*resource, None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some((*group).to_owned()),
                namespace: Some(cluster.namespace.to_string()),
                resource: Some(resource.to_owned()),
                subresource,
                verb: Some((*verb).to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.kube());
    match reviews.create(&PostParams::default(), &review).await {
        Ok(review) => Ok(review.status.map(|status| status.allowed)),
        Err(error) if refusal::is_denied(&error) || refusal::is_absent(&error) => Ok(None),
        Err(error) => {
            let doing = "asking the cluster what is allowed";
            Err(refusal::told(doing, error))
        }
    }
}

/// Whether the cluster would take the Job, with what the template adds: asked of the cluster, which
/// knows its own version's fields, and does nothing. What else stands in the way shows when it is
/// made.
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run>
async fn check_job(cluster: &Cluster, asked: &Asked) -> Result<()> {
    let Some(size) = asked.sizes.first() else {
        return Ok(());
    };
    let order = Order {
        name: "runner-launch".to_owned(),
        serves: String::new(),
        launch_id: "runner-launch".to_owned(),
        user_data: Vec::new(),
        timeout: Duration::from_secs(600),
        stop: StopFlag::default(),
    };
    let job = body::job(asked, size, &order, "runner-launch")?;
    match cluster.create::<Job>(&job, Effect::None).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 404 | 422) => {
            // Some of a cluster's own checks can't be asked without an effect.
            let unasked = status.message.contains("does not support dry run");
            // A quota may have room for another size.
            let elsewhere = refusal::is_quota(&status.message) && asked.sizes.len() > 1;
            match unasked || elsewhere {
                true => Ok(()),
                false => Err(refusal::refused("checking the Job", &status)),
            }
        }
        _ => Ok(()),
    }
}

/// Whether the service account is there. A pod with one that isn't would never be made.
async fn check_account(cluster: &Cluster, account: Option<&str>) -> Result<Option<String>> {
    let Some(account) = account else {
        return Ok(None);
    };
    let accounts: Api<ServiceAccount> = cluster.api();
    match accounts.get(account).await {
        Ok(_) => Ok(None),
        Err(error) if refusal::is_absent(&error) => Err(Error::usage(format!(
            "--cloud-permission-set: there is no service account {account} in the namespace {}",
            cluster.namespace
        ))
        .hint(format!("kubectl create serviceaccount {account} makes it"))),
        Err(error) if refusal::is_denied(&error) => Ok(Some(format!(
            "get serviceaccounts isn't allowed: whether there is a {account} will show"
        ))),
        Err(error) => Err(refusal::told(
            format!("looking for the service account {account}"),
            error,
        )),
    }
}
