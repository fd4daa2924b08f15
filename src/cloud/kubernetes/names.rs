//! What an instance, which is a Job, is called.

use crate::cloud::Order;
use crate::cloud::names::{label, suffix};

use super::labels::is_domain;

/// A Job's name is part of its pods' labels and hostnames: at most 63 characters.
/// <https://kubernetes.io/docs/concepts/workloads/controllers/job/#writing-a-job-spec>
const LONGEST: usize = 63;
/// How much of a runner's name is in one that had to be changed: the launch's part follows.
const NAME_LENGTH: usize = 50;

/// The name of a launch's Job and Secret: the runner's, where Kubernetes takes that; else as much of
/// it as it takes, and what no other launch has.
pub(super) fn job_name(order: &Order) -> String {
    if is_name(&order.name) {
        return order.name.clone();
    }
    let id = suffix(&order.launch_id);
    match label(&order.name, NAME_LENGTH).as_str() {
        "" => format!("runner-{id}"),
        name => format!("{name}-{id}"),
    }
}

/// The name of the Secret of a launch's Job for its candidate of this number: nobody else's, so that
/// one that is there already is the one that was to be made.
pub(super) fn secret_name(order: &Order, candidate: usize) -> String {
    let id = suffix(&order.launch_id);
    format!("{}-{id}-{candidate}", job_name(order))
}

/// Whether a text can be a Job's name as it is.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= LONGEST && !text.contains('.') && is_domain(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str) -> String {
        job_name(&Order {
            name: name.into(),
            ..Order::example()
        })
    }

    #[test]
    fn a_name_is_the_runner_s_where_that_can_be() {
        assert_eq!(job("cml-a1b2"), "cml-a1b2");
        assert_eq!(job("My Runner!"), "my-runner-0a1b2c3d4e5f");
        assert_eq!(job("a.b"), "a-b-0a1b2c3d4e5f");
        assert_eq!(job("ü"), "runner-0a1b2c3d4e5f");
        let long = job(&"x".repeat(80));
        assert_eq!(long.len(), 63);
        assert!(is_name(&long), "{long}");
    }
}
