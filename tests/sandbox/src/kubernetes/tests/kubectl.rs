//! kubectl, where it is installed.

use std::process::Stdio;

use super::*;

async fn kubectl(lab: &Lab, args: &[&str]) -> Option<(bool, String)> {
    let mut command = tokio::process::Command::new("kubectl");
    command
        .args(args)
        .env("KUBECONFIG", lab.cluster.kubeconfig())
        .env("HOME", lab.sandbox.home())
        .stdin(Stdio::null());
    match command.output().await {
        Ok(output) => {
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.push_str(&String::from_utf8_lossy(&output.stderr));
            Some((output.status.success(), text))
        }
        Err(_) => None,
    }
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
async fn kubectl_sees_and_deletes_what_was_made() {
    let lab = lab().await;
    let Some((_, version)) = kubectl(&lab, &["version"]).await else {
        eprintln!("skipped: there is no kubectl");
        return;
    };
    assert!(version.contains("Server Version: v1."), "{version}");
    lab.made("jobs", &job("a", PATIENT)).await;
    let pod = lab.pod("Running").await;
    lab.until("begun", |cluster| {
        cluster.log(&pod.name).contains("begun").then_some(())
    })
    .await;
    let run = async |args: &[&str]| {
        let (success, text) = kubectl(&lab, args).await.unwrap();
        assert!(success, "{args:?}: {text}");
        text
    };
    let selector = "app.kubernetes.io/managed-by=test";
    let text = run(&["get", "jobs,pods,secrets", "-l", selector]).await;
    assert!(text.contains("job.batch/a"), "{text}");
    let text = run(&["get", "pods", "-o", "wide", "-l", "job-name=a"]).await;
    assert!(text.contains(&pod.name), "{text}");
    let text = run(&["describe", "job", "a"]).await;
    assert!(
        text.contains("SuccessfulCreate") && text.contains("Created pod: a-"),
        "{text}"
    );
    let text = run(&["describe", "pod", &pod.name]).await;
    assert!(text.contains("Started container runner"), "{text}");
    let text = run(&["logs", "job/a"]).await;
    assert!(text.contains("begun"), "{text}");
    let text = run(&["label", "job", "a", "more=yes"]).await;
    assert!(text.contains("job.batch/a labeled"), "{text}");
    let text = run(&["delete", "job", "a", "--cascade=foreground", "--wait"]).await;
    assert!(text.contains("job.batch \"a\" deleted"), "{text}");
    assert!(lab.cluster.live().is_empty());
    assert!(lab.cluster.pods()[0].log.contains("asked"));

    lab.made("jobs", &job("b", PATIENT)).await;
    lab.until("b", |cluster| {
        let live = cluster.live();
        live.iter().any(|pod| pod.phase == "Running").then_some(())
    })
    .await;
    run(&["delete", "job", "b"]).await;
    lab.until("gone", |cluster| cluster.live().is_empty().then_some(()))
        .await;
    lab.end().await;
}

#[tokio::test]
async fn kubectl_gets_credentials_from_a_program() {
    let lab = lab().await;
    let plugin = lab.cluster.exec_plugin().unwrap();
    for path in [
        lab.cluster.kubeconfig_exec(&plugin).unwrap(),
        lab.cluster.kubeconfig_token().unwrap(),
    ] {
        let argument = format!("--kubeconfig={}", path.display());
        let Some((success, text)) = kubectl(&lab, &[&argument, "get", "jobs"]).await else {
            return;
        };
        assert!(success && text.contains("No resources found"), "{text}");
    }
    lab.end().await;
}
