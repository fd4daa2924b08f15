//! Kubernetes.

mod access;
mod capacity;
mod closed;
mod endings;
mod fleet;
mod kubectl;
mod launch;
mod pods;
mod watching;

use base64::Engine as _;

/// A text in Base64.
fn decoded(text: &str) -> String {
    let bytes = base64::prelude::BASE64_STANDARD.decode(text).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Ends a process of a pod by force.
fn kill(pid: i32) {
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    assert!(killed.unwrap().success());
}
