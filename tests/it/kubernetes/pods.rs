//! What is in the pod: the image, the template, the rights.

use serde_json::json;

use crate::world::World;

/// Launches with an image; what its log says.
async fn log_of(image: &str) -> (i32, String) {
    let world = World::new().await;
    let image = format!("--cloud-image={image}");
    let done = world.launch_kubernetes(&["--idle-timeout=1", &image]).await;
    world.until_clean().await;
    let log = world.sandbox.kubernetes().pods().remove(0).log;
    world.finish().await;
    (done.code, format!("{log}\n{}", done.stderr))
}

#[tokio::test]
async fn any_image_with_curl_or_wget_will_do() {
    for image in ["registry.example/curl:1", "registry.example/tools:1"] {
        let (code, log) = log_of(image).await;
        assert_eq!(code, 0, "{image}: {log}");
        assert!(
            log.contains("agent downloaded and checked"),
            "{image}: {log}"
        );
        assert!(log.contains("runner program ready"), "{image}: {log}");
    }
}

#[tokio::test]
async fn an_agent_that_is_there_already_isn_t_downloaded() {
    let (code, log) = log_of("registry.example/agent:1").await;
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("agent downloaded"), "{log}");
}

#[tokio::test]
async fn an_image_without_means_to_download_says_so() {
    for image in ["ubuntu:24.04", "debian:12-slim"] {
        let (code, log) = log_of(image).await;
        assert_eq!(code, 5, "{image}: {log}");
        assert!(log.contains("neither curl nor wget"), "{image}: {log}");
    }
}

#[tokio::test]
async fn a_template_is_merged_into_the_pod() {
    let world = World::new().await;
    let file = world.folder().join("template.yaml");
    let template = "
        metadata: {annotations: {example.com/who: me}}
        spec:
          tolerations: [{key: gpu, operator: Exists}]
          volumes: [{name: cache, emptyDir: {}}]
          containers:
            - name: runner
              env: [{name: FROM_TEMPLATE, value: here}]
              volumeMounts: [{name: cache, mountPath: /cache}]
    ";
    std::fs::write(&file, template).unwrap();
    for given in [template, file.to_str().unwrap()] {
        let given = format!("--cloud-kubernetes-pod-template={given}");
        let done = world.launch_kubernetes(&["--idle-timeout=1", &given]).await;
        assert_eq!(done.code, 0, "{}", world.report());
        let pod = world.sandbox.kubernetes().pods().pop().unwrap();
        assert_eq!(pod.annotations["example.com/who"], "me");
        assert_eq!(pod.spec["tolerations"][0]["key"], "gpu");
        assert_eq!(pod.spec["volumes"].as_array().unwrap().len(), 3);
        assert_eq!(
            pod.spec["containers"][0]["volumeMounts"]
                .as_array()
                .unwrap()
                .len(),
            3
        );
        assert_eq!(pod.spec["containers"][0]["env"][0]["value"], "here");
        world.until_clean().await;
    }
    // The cluster is asked about it before anything is made, and a person's slip at once.
    let made = world.sandbox.kubernetes().jobs().len();
    for (template, words) in [
        ("spec: {tolerationz: [{}]}", "tolerationz"),
        ("spec: {tolerations: nonsense}", "tolerations"),
        ("spec: {restartPolicy: Always}", "can only be Never"),
        (
            "spec: {containers: [{name: dind, image: i}]}",
            "initContainers",
        ),
        ("/nowhere/template.yaml", "/nowhere/template.yaml"),
    ] {
        let template = format!("--cloud-kubernetes-pod-template={template}");
        let done = world.launch_kubernetes(&[&template]).await;
        assert_eq!(done.code, 2, "{}", world.report());
        assert!(done.stderr.contains(words), "{}", done.stderr);
        assert_eq!(world.sandbox.kubernetes().jobs().len(), made);
        assert!(world.sandbox.github().runners().is_empty());
    }
    world.finish().await;
}

#[tokio::test]
async fn a_restricted_namespace_gets_what_it_asks_for_by_a_template() {
    let world = World::new().await;
    let template = "--cloud-kubernetes-pod-template=
        spec:
          securityContext: {runAsNonRoot: true, runAsUser: 1001, runAsGroup: 1001, fsGroup: 1001}
          containers:
            - name: runner
              securityContext: {runAsUser: 1001, capabilities: {add: []}}
    ";
    let done = world
        .launch_kubernetes(&["--idle-timeout=1", template])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let pod = world.sandbox.kubernetes().pods().remove(0);
    let rights = &pod.spec["containers"][0]["securityContext"];
    assert_eq!(rights["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(rights["runAsUser"], 1001);
    world.finish().await;
}

#[tokio::test]
async fn privilege_is_for_who_asks_for_it() {
    let world = World::new().await;
    let done = world
        .launch_kubernetes(&["--idle-timeout=1", "--cloud-kubernetes-privileged"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let pod = world.sandbox.kubernetes().pods().remove(0);
    assert_eq!(
        pod.spec["containers"][0]["securityContext"]["privileged"],
        true
    );
    world.finish().await;
}

#[tokio::test]
async fn an_option_without_meaning_here_is_told() {
    let world = World::new().await;
    let done = world
        .launch_kubernetes(&["--dry-run", "--cloud-spot", "--cloud-region=us-east"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    for option in ["--cloud-spot has no effect", "--cloud-region has no effect"] {
        assert!(done.stderr.contains(option), "{}", done.stderr);
    }
    assert!(world.sandbox.kubernetes().jobs().is_empty());
    world.finish().await;
}
