//! What an instance, which is a Job, is called.

use crate::cloud::Order;

use super::labels::is_domain;

/// A Job's name is part of its pods' labels and hostnames: at most 63 characters.
/// <https://kubernetes.io/docs/concepts/workloads/controllers/job/#writing-a-job-spec>
const LONGEST: usize = 63;
/// How much of the launch's id is in a name that had to be changed.
const ID_LENGTH: usize = 12;

/// The name of a launch's Job and Secret: the runner's, where Kubernetes takes that; else as much of
/// it as it takes, and what no other launch has.
pub(super) fn job_name(order: &Order) -> String {
    if is_name(&order.name) {
        return order.name.clone();
    }
    let plain: String = order
        .name
        .to_ascii_lowercase()
        .chars()
        .map(|c| match c {
            'a'..='z' | '0'..='9' => c,
            _ => '-',
        })
        .collect();
    let cut: String = plain
        .trim_matches('-')
        .chars()
        .take(LONGEST - ID_LENGTH - 1)
        .collect();
    let id: String = order.launch_id.chars().take(ID_LENGTH).collect();
    match cut.trim_end_matches('-') {
        "" => format!("runner-{id}"),
        cut => format!("{cut}-{id}"),
    }
}

/// The name of the Secret of a launch's Job for its candidate of this number: nobody else's, so that
/// one that is there already is the one that was to be made.
pub(super) fn secret_name(order: &Order, candidate: usize) -> String {
    let id: String = order.launch_id.chars().take(ID_LENGTH).collect();
    format!("{}-{id}-{candidate}", job_name(order))
}

/// Whether a text can be a Job's name as it is.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= LONGEST && !text.contains('.') && is_domain(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::StopFlag;

    fn job(name: &str) -> String {
        job_name(&Order {
            name: name.into(),
            serves: "https://example.com/o/r".into(),
            launch_id: "0123456789abcdefghij".into(),
            user_data: Vec::new(),
            timeout: std::time::Duration::from_secs(600),
            stop: StopFlag::default(),
        })
    }

    #[test]
    fn a_name_is_the_runner_s_where_that_can_be() {
        assert_eq!(job("cml-a1b2"), "cml-a1b2");
        assert_eq!(job("My Runner!"), "my-runner-0123456789ab");
        assert_eq!(job("a.b"), "a-b-0123456789ab");
        assert_eq!(job("ü"), "runner-0123456789ab");
        let long = job(&"x".repeat(80));
        assert_eq!(long.len(), 63);
        assert!(is_name(&long), "{long}");
    }
}
