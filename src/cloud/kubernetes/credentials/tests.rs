use std::os::unix::fs::PermissionsExt as _;

use secrecy::ExposeSecret as _;

use super::*;
use crate::host::names;

/// A kubeconfig with a user of this text.
fn kubeconfig(user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         contexts: [{{name: c, context: {{cluster: k, user: u, namespace: runners}}}}]\n\
         clusters: [{{name: k, cluster: {{server: \"https://k.example:6443/base\", proxy-url: \"http://proxy.example:3128\"}}}}]\n\
         users: [{{name: u, user: {user}}}]\n"
    )
}

async fn found(env: &[(&str, &str)]) -> Result<Access> {
    find(&Host::fixed(env.iter().copied())).await
}

#[tokio::test]
async fn the_text_comes_before_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    std::fs::write(&path, kubeconfig("{token: from-the-file}")).unwrap();
    let path = path.display().to_string();
    let text = kubeconfig("{token: from-the-text}");
    let token = |access: Access| {
        access
            .config
            .auth_info
            .token
            .unwrap()
            .expose_secret()
            .to_owned()
    };
    let both = found(&[(TEXT, &text), (PATHS, &path)]).await.unwrap();
    assert_eq!(both.config.default_namespace, "runners");
    assert_eq!(
        both.config.cluster_url.to_string(),
        "https://k.example:6443/base"
    );
    assert_eq!(
        both.proxy.as_ref().unwrap().as_str(),
        "http://proxy.example:3128/"
    );
    assert_eq!(token(both), "from-the-text");
    let file = found(&[(PATHS, &path)]).await.unwrap();
    assert_eq!(token(file), "from-the-file");
    // Of several files, those that aren't there are passed over.
    let several = format!("/nowhere/config:{path}");
    assert_eq!(
        token(found(&[(PATHS, &several)]).await.unwrap()),
        "from-the-file"
    );
    // The usual file is a last resort, before the pod's own.
    std::fs::create_dir(folder.path().join(".kube")).unwrap();
    std::fs::copy(&path, folder.path().join(".kube/config")).unwrap();
    let home = folder.path().display().to_string();
    assert_eq!(
        token(found(&[("HOME", &home)]).await.unwrap()),
        "from-the-file"
    );
}

#[tokio::test]
async fn nothing_and_nonsense_are_told_without_their_text() {
    let error = found(&[]).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.hints()[0].contains(TEXT), "{:?}", error.hints());
    let error = found(&[(TEXT, "token: [s3cret, \"unclosed\nmore: s3cret")]).await;
    let error = error.err().unwrap();
    assert!(error.chain().contains("line "), "{}", error.chain());
    assert!(!error.chain().contains("s3cret"), "{}", error.chain());
    let error = found(&[(PATHS, "/nowhere/config")]).await.err().unwrap();
    assert!(
        error.chain().contains("/nowhere/config"),
        "{}",
        error.chain()
    );
}

#[tokio::test]
async fn a_pod_has_its_service_account() {
    let root = tempfile::tempdir().unwrap();
    let folder = root
        .path()
        .join("var/run/secrets/kubernetes.io/serviceaccount");
    std::fs::create_dir_all(&folder).unwrap();
    let authority = rcgen::generate_simple_self_signed(["k".to_owned()]).unwrap();
    std::fs::write(folder.join("ca.crt"), authority.cert.pem()).unwrap();
    std::fs::write(folder.join("namespace"), "ci\n").unwrap();
    let path = root.path().display().to_string();
    let env = [
        (names::ROOT, path.as_str()),
        ("KUBERNETES_SERVICE_HOST", "fd00::1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
    ];
    // Without a token there is no account.
    assert!(found(&env).await.is_err());
    std::fs::write(folder.join("token"), "t").unwrap();
    let access = found(&env).await.unwrap();
    assert_eq!(
        access.config.cluster_url.to_string(),
        "https://[fd00::1]:443/"
    );
    assert_eq!(access.config.default_namespace, "ci");
    assert_eq!(access.config.root_cert.unwrap().len(), 1);
    let token = access.config.auth_info.token_file.unwrap();
    assert_eq!(std::fs::read_to_string(token).unwrap(), "t");
}

/// A kubeconfig whose user is a script.
fn plugin(folder: &Path, script: &str) -> String {
    let path = folder.join("plugin");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    kubeconfig(&format!(
        "{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: {}, args: [get-token], \
         env: [{{name: CLUSTER, value: blue}}], interactiveMode: IfAvailable, \
         installHint: install the plugin}}}}",
        path.display()
    ))
}

#[tokio::test]
async fn a_plugin_is_asked_once_and_doesn_t_see_our_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
        [ "$1" = get-token ] && [ "$CLUSTER" = blue ] && [ -n "$AWS_PROFILE" ] || exit 3
        [ -z "$REPO_TOKEN$RUNNER_LAUNCH_TOKEN$CML_TOKEN" ] || exit 4
        echo asked >>"$HOME/times"
        case $KUBERNETES_EXEC_INFO in *'"interactive":false'*) ;; *) exit 5 ;; esac
        echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "spec": {},
               "status": {"token": "from-the-plugin", "expirationTimestamp": "2026-01-01T00:10:00Z"}}'
    "#;
    let text = plugin(folder.path(), script);
    let home = folder.path().display().to_string();
    let env = [
        (TEXT, text.as_str()),
        ("HOME", &home),
        ("PATH", "/usr/bin:/bin"),
        ("AWS_PROFILE", "ci"),
        ("REPO_TOKEN", "t"),
        ("RUNNER_LAUNCH_TOKEN", "t"),
        ("CML_TOKEN", "t"),
    ];
    let _held = crate::agent::CHILDREN.read().await;
    let access = found(&env).await.unwrap();
    let token = access.config.auth_info.token.as_ref().unwrap();
    assert_eq!(token.expose_secret(), "from-the-plugin");
    assert!(
        access.config.auth_info.exec.is_none(),
        "nobody asks it again"
    );
    let times = std::fs::read_to_string(folder.path().join("times")).unwrap();
    assert_eq!(times, "asked\n");
    let now = Host::fixed::<&str, &str>([]).now();
    assert!(!access.ends_before(now, Duration::from_secs(60)));
    assert!(access.ends_before(now, Duration::from_secs(601)));
}

#[tokio::test]
async fn a_plugin_s_failure_tells_what_it_complained_of_and_not_what_it_printed() {
    let folder = tempfile::tempdir().unwrap();
    let text = plugin(
        folder.path(),
        "echo s3cret; echo 'please sign in' >&2; exit 7",
    );
    let _held = crate::agent::CHILDREN.read().await;
    let error = found(&[(TEXT, &text)]).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(
        error.chain().contains("please sign in"),
        "{}",
        error.chain()
    );
    assert!(!error.chain().contains("s3cret"), "{}", error.chain());
    let text = plugin(
        folder.path(),
        "echo '{\"kind\": \"ExecCredential\", \"s3cret\": 1}'",
    );
    let error = found(&[(TEXT, &text)]).await.err().unwrap();
    assert!(
        error.chain().contains("another version"),
        "{}",
        error.chain()
    );
    assert!(!error.chain().contains("s3cret"), "{}", error.chain());
    let missing = text.replace("/plugin", "/missing");
    let error = found(&[(TEXT, &missing)]).await.err().unwrap();
    assert_eq!(error.hints(), ["install the plugin"]);
}

#[tokio::test]
async fn a_plugin_may_give_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
        echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
               "status": {"clientCertificateData": "CERT", "clientKeyData": "KEY"}}'
    "#;
    let text = plugin(folder.path(), script);
    let _held = crate::agent::CHILDREN.read().await;
    let user = found(&[(TEXT, &text)]).await.unwrap().config.auth_info;
    assert_eq!(user.client_certificate_data.unwrap(), packed("CERT"));
    assert_eq!(user.client_key_data.unwrap().expose_secret(), packed("KEY"));
}
