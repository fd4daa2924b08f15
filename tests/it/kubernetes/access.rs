//! How the cluster is found, and what a launch is allowed.

use serde_json::{Value, json};

use crate::world::World;

const TEXT: &str = "KUBERNETES_CONFIGURATION";
const PATHS: &str = "KUBECONFIG";
const DRY: [&str; 1] = ["--dry-run"];

#[tokio::test]
async fn every_way_to_a_cluster_works() {
    let mut world = World::new().await;
    let kubernetes = world.sandbox.kubernetes();
    let done = world.launch_kubernetes(&DRY).await;
    assert_eq!(done.code, 0, "client certificate: {}", world.report());
    let token = kubernetes.kubeconfig_token().unwrap();
    let exec = kubernetes.exec_plugin().unwrap();
    let exec = kubernetes.kubeconfig_exec(&exec).unwrap();
    for (what, path) in [("token", token), ("exec plugin", exec)] {
        world.set(PATHS, path.to_str());
        let done = world.launch_kubernetes(&DRY).await;
        assert_eq!(done.code, 0, "{what}: {}", world.report());
    }
    world.set(PATHS, Some("/nowhere/config"));
    let done = world.launch_kubernetes(&DRY).await;
    assert_eq!(done.code, 3, "{}", world.report());
    assert!(done.stderr.contains("/nowhere/config"), "{}", done.stderr);
    world.set(TEXT, Some(&kubernetes.kubeconfig_inline()));
    let done = world.launch_kubernetes(&DRY).await;
    assert_eq!(done.code, 0, "inline: {}", world.report());
    world.set(TEXT, None);
    world.set(PATHS, None);
    let done = world.launch_kubernetes(&DRY).await;
    assert_eq!(done.code, 3, "{}", world.report());
    assert!(done.stderr.contains(TEXT), "{}", done.stderr);
    world.finish().await;
}

#[tokio::test]
async fn a_namespace_that_is_not_there_is_heard_of_before() {
    let mut world = World::new().await;
    let kubernetes = world.sandbox.kubernetes();
    kubernetes.allow_in("nowhere");
    let mut config: Value = serde_json::from_str(&kubernetes.kubeconfig_inline()).unwrap();
    config["contexts"][0]["context"]["namespace"] = json!("nowhere");
    world.set(TEXT, Some(&config.to_string()));
    for args in [&DRY[..], &[]] {
        let done = world.launch_kubernetes(args).await;
        assert_eq!(done.code, 2, "{}", world.report());
        for part in ["checking the Job", "\"nowhere\" not found", "set-context"] {
            assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
        }
    }
    world.finish().await;
}

#[tokio::test]
async fn a_pod_launches_with_its_own_service_account() {
    let mut world = World::new().await;
    let kubernetes = world.sandbox.kubernetes();
    kubernetes.service_account("launcher");
    kubernetes.service_account_role("launcher", all()).unwrap();
    let inside = kubernetes.in_cluster("launcher").unwrap();
    let root = world.folder().join("root");
    let there = root.join("var/run/secrets/kubernetes.io");
    std::fs::create_dir_all(&there).unwrap();
    std::os::unix::fs::symlink(&inside.folder, there.join("serviceaccount")).unwrap();
    world.set(PATHS, None);
    world.set("RUNNER_LAUNCH_ROOT", root.to_str());
    for (name, value) in inside.env {
        world.set(&name, Some(&value));
    }
    let done = world.launch_kubernetes(&DRY).await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.finish().await;
}

fn all() -> Value {
    json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }])
}

/// The README's permissions as a Role's rules.
fn documented(without: &[&str]) -> Value {
    let permissions = include_str!("../../data/permissions-kubernetes.txt");
    let rules = permissions
        .lines()
        .filter(|line| !without.contains(line))
        .map(|line| {
            let (resource, verb) = line.split_once(' ').unwrap();
            let (group, resource) = match resource.strip_prefix("batch/") {
                Some(resource) => ("batch", resource),
                None => ("", resource),
            };
            json!({ "apiGroups": [group], "resources": [resource], "verbs": [verb] })
        });
    rules.collect()
}

/// The README's Role has these permissions and no others.
#[test]
fn the_readme_has_the_role() {
    let readme = include_str!("../../../README.md");
    let (_, role) = readme
        .split_once("```yaml\napiVersion: rbac.authorization.k8s.io/v1\n")
        .unwrap();
    let (role, _) = role.split_once("```").unwrap();
    let role: Value = serde_saphyr::from_str(role).unwrap();
    let words = |value: &Value| -> Vec<String> {
        let words = value.as_array().unwrap().iter();
        words
            .map(|word| word.as_str().unwrap().to_owned())
            .collect()
    };
    let mut permissions = Vec::new();
    for rule in role["rules"].as_array().unwrap() {
        let groups = words(&rule["apiGroups"]);
        for resource in words(&rule["resources"]) {
            for verb in words(&rule["verbs"]) {
                permissions.push(match groups[0].as_str() {
                    "" => format!("{resource} {verb}"),
                    group => format!("{group}/{resource} {verb}"),
                });
            }
        }
    }
    permissions.sort();
    let listed = include_str!("../../data/permissions-kubernetes.txt");
    assert_eq!(permissions, listed.lines().collect::<Vec<_>>());
}

#[tokio::test]
async fn the_documented_role_is_enough_and_all_of_it_is_needed() {
    let world = World::new().await;
    let kubernetes = world.sandbox.kubernetes();
    kubernetes.service_account("jobs");
    let args = [
        "--name=one",
        "--idle-timeout=never",
        "--cloud-permission-set=jobs",
    ];
    kubernetes.role(documented(&[])).unwrap();
    let done = world.launch_kubernetes(&args).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(!done.stderr.contains("isn't allowed"), "{}", done.stderr);
    let done = world.run(&["list", "--cloud=kubernetes"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let done = world.run(&["stop", "--cloud=kubernetes", "one"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.until_clean().await;
    for permission in include_str!("../../data/permissions-kubernetes.txt").lines() {
        kubernetes.role(documented(&[permission])).unwrap();
        let made = kubernetes.jobs().len();
        let done = world
            .launch_kubernetes(&["--dry-run", "--cloud-permission-set=jobs"])
            .await;
        let (resource, verb) = permission.split_once(' ').unwrap();
        let words = format!("{verb} {}", resource.trim_start_matches("batch/"));
        assert!(
            done.stderr.contains(&words),
            "{permission}: {}",
            done.stderr
        );
        let optional = ["events", "pods/log", "serviceaccounts"].contains(&resource);
        assert_eq!(
            done.code,
            if optional { 0 } else { 3 },
            "{permission}: {}",
            done.stderr
        );
        assert_eq!(kubernetes.jobs().len(), made, "{permission}");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let mut world = World::new().await;
    let kubernetes = world.sandbox.kubernetes();
    let done = world
        .launch_kubernetes(&["--cloud-permission-set=nobody"])
        .await;
    assert_eq!(done.code, 2, "{}", world.report());
    assert!(
        done.stderr.contains("no service account nobody"),
        "{}",
        done.stderr
    );
    let path = kubernetes.kubeconfig_token().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let broken = world.folder().join("broken");
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["users"][0]["user"]["token"] = json!("not-a-token-at-all");
    std::fs::write(&broken, config.to_string()).unwrap();
    world.set(PATHS, broken.to_str());
    let done = world.launch_kubernetes(&DRY).await;
    assert_eq!(done.code, 3, "{}", world.report());
    assert!(done.stderr.contains("doesn't accept"), "{}", done.stderr);
    // Without the cluster's own authority, its certificate is a stranger's.
    let mut config: Value = serde_json::from_str(&text).unwrap();
    let cluster = config["clusters"][0]["cluster"].as_object_mut().unwrap();
    cluster.remove("certificate-authority");
    cluster.remove("certificate-authority-data");
    std::fs::write(&broken, config.to_string()).unwrap();
    let done = world.launch_kubernetes(&DRY).await;
    assert_eq!(done.code, 1, "{}", world.report());
    assert!(done.stderr.contains("certificate"), "{}", done.stderr);
    // It may be among the system's.
    let authority = world.folder().join("ca.pem");
    std::fs::write(&authority, kubernetes.authority()).unwrap();
    world.set("SSL_CERT_FILE", authority.to_str());
    let done = world.launch_kubernetes(&DRY).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert!(kubernetes.jobs().is_empty());
    world.finish().await;
}
