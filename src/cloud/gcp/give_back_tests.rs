use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::json;

use super::*;
use crate::cloud::gcp::scripted::{Answer, Seen, Server as Scripted};

const DELETE: &str = "DELETE /compute/v1/projects/proj/zones/us-west1-b/instances/cml-x";

fn machine(seen: &Seen) -> Answer {
    match seen.line.trim_start_matches("GET /computeMetadata/v1/") {
        "project/project-id" => Answer::metadata("proj", "1"),
        "instance/zone" => Answer::metadata("projects/123/zones/us-west1-b", "1"),
        "instance/name" => Answer::metadata("cml-x", "1"),
        "instance/service-accounts/default/token" => Answer::metadata(
            r#"{"access_token":"ya29.machine-token_-","expires_in":3599,"token_type":"Bearer"}"#,
            "1",
        ),
        _ => Answer::no_metadata(),
    }
}

/// A machine whose deletion is answered by `script`.
async fn server(script: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |seen, before| match seen.line.as_str() {
        DELETE => script(before),
        _ => machine(seen),
    })
    .await
}

fn accepted() -> Answer {
    Answer::json(&json!({ "name": "op", "status": "RUNNING" }))
}

async fn ask(server: &Scripted) -> Result<bool> {
    let (host, http) = server.machine(&[]);
    let api = Url::parse(&format!("{}/compute/v1/", server.url)).unwrap();
    delete_itself(&api, &host, &http).await
}

#[tokio::test]
async fn a_machine_has_itself_deleted_by_its_own_account() {
    let server = server(|_| accepted()).await;
    assert!(ask(&server).await.unwrap());
    let asked = &server.all(DELETE)[0];
    assert_eq!(
        asked.header("authorization"),
        Some("Bearer ya29.machine-token_-")
    );
    assert!(asked.param("requestId").is_some());
}

#[tokio::test]
async fn it_is_asked_again_until_an_answer_comes_and_the_machine_is_made() {
    let server = server(|before| match before {
        0 => Answer::cut(),
        1 => Answer::refusal(503, "backendError", "Backend Error"),
        2 => Answer::refusal(400, "resourceNotReady", "The resource is not ready"),
        _ => accepted(),
    })
    .await;
    assert!(ask(&server).await.unwrap());
    let asked = server.all(DELETE);
    assert_eq!(asked.len(), 4);
    let ids: Vec<_> = asked.iter().map(|seen| seen.param("requestId")).collect();
    // What was answered by a refusal is another request from then on.
    assert!(ids[..3].iter().all(|id| *id == ids[0]));
    assert_ne!(ids[3], ids[0]);
}

#[tokio::test]
async fn a_machine_that_may_not_is_told_so() {
    for (status, reason) in [
        (403, "insufficientPermissions"),
        (401, "authError"),
        (404, "notFound"),
    ] {
        let server = server(move |_| Answer::refusal(status, reason, "no")).await;
        assert!(!ask(&server).await.unwrap(), "{status}");
        assert_eq!(server.all(DELETE).len(), 1);
    }
    let odd = server(|_| Answer::refusal(400, "invalid", "odd")).await;
    assert!(ask(&odd).await.unwrap_err().chain().contains("odd"));
}

#[tokio::test]
async fn a_machine_without_an_account_asks_nobody() {
    let server = Scripted::start(|seen, _| match seen.line.contains("service-accounts") {
        true => Answer::no_metadata(),
        false => machine(seen),
    })
    .await;
    assert!(!ask(&server).await.unwrap());
    assert!(server.all(DELETE).is_empty());
}

/// A folder with the shell's tools and one of the two programs, which notes its arguments.
fn tools(folder: &Path, program: &str) {
    for tool in ["sh", "sed", "mktemp", "rm", "cat"] {
        let found = ["/usr/bin", "/bin"]
            .iter()
            .map(|path| Path::new(path).join(tool))
            .find(|path| path.exists())
            .unwrap();
        std::os::unix::fs::symlink(found, folder.join(tool)).unwrap();
    }
    let noting = folder.join(program);
    let text = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" >>{}/arguments\nexec /usr/bin/{program} \"$@\"\n",
        folder.display()
    );
    std::fs::write(&noting, text).unwrap();
    std::fs::set_permissions(&noting, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs the shell's form as the bootstrap script does, with one program.
async fn farewell(server: &Scripted, program: &str) -> (Output, String) {
    let folder = tempfile::tempdir().unwrap();
    tools(folder.path(), program);
    let temporary = folder.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let script = format!(
        "compute_api='{}/compute/v1/'\n(\n:\n{FAREWELL}\n)\n",
        server.url
    );
    let _held = crate::agent::CHILDREN.read().await;
    let output = tokio::process::Command::new("/bin/sh")
        .args(["-c", &script])
        .env_clear()
        .env("PATH", folder.path())
        .env("TMPDIR", &temporary)
        .env(
            "GCE_METADATA_HOST",
            server.url.trim_start_matches("http://"),
        )
        .output()
        .await
        .unwrap();
    let arguments = std::fs::read_to_string(folder.path().join("arguments")).unwrap();
    assert_eq!(
        std::fs::read_dir(&temporary).unwrap().count(),
        0,
        "nothing is left behind"
    );
    (output, arguments)
}

#[tokio::test]
async fn the_shell_s_form_does_the_same_with_either_program_and_shows_no_token() {
    for program in ["curl", "wget"] {
        let server = server(|_| accepted()).await;
        let (output, arguments) = farewell(&server, program).await;
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(
            text, "runner-launch: this machine is being deleted\n",
            "{program}"
        );
        let asked = server.all(DELETE);
        assert_eq!(asked.len(), 1, "{program}");
        assert_eq!(
            asked[0].header("authorization"),
            Some("Bearer ya29.machine-token_-"),
            "{program}"
        );
        assert!(arguments.contains("/instances/cml-x"), "{arguments}");
        assert!(!arguments.contains("ya29"), "{program}: {arguments}");
    }
}

#[tokio::test]
async fn the_shell_s_form_says_when_it_can_t() {
    for program in ["curl", "wget"] {
        let denied = server(|_| Answer::refusal(403, "forbidden", "no")).await;
        let (output, _) = farewell(&denied, program).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("could not have itself deleted"), "{text}");
        assert!(output.status.success());
        assert_eq!(denied.all(DELETE).len(), 1);

        let without = Scripted::start(|seen, _| match seen.line.contains("service-accounts") {
            true => Answer::no_metadata(),
            false => machine(seen),
        })
        .await;
        let (output, _) = farewell(&without, program).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("could not have itself deleted"), "{text}");
        assert!(without.all(DELETE).is_empty());
    }
}
