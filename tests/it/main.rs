//! Black-box tests: the real program against the sandbox, by promise and by provider.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't go on has failed"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a test hands the machine's search path to the programs it starts"
)]

mod action;
mod agent;
mod aws;
mod azure;
mod closed;
mod command_line;
mod component;
mod documents;
mod faults;
mod fleet;
mod gcp;
mod github;
mod gitlab;
mod gitlab_agent;
mod kubernetes;
mod launch;
mod local;
mod properties;
mod round_trips;
mod secrets;
mod tls;
mod work;
mod works_where;
mod world;
