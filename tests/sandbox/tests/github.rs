//! The fake GitHub answers as the real one does, refusals included.

mod support;

use sandbox::{FaultKind, GitHub, JobScript};
use support::{admin, ask, sandbox, send};

const RUNNERS: &str = "/repos/octo/repo/actions/runners";
const JIT: &str = "/repos/octo/repo/actions/runners/generate-jitconfig";
const JIT_BODY: &str =
    r#"{"name":"j1","runner_group_id":1,"labels":["self-hosted","gpu"],"work_folder":"_work"}"#;

fn queue(github: &GitHub) -> u64 {
    github.queue_run(
        "octo/repo",
        "train",
        &["gpu"],
        JobScript::Shell("true".into()),
    )
}

#[tokio::test]
async fn a_request_must_be_well_formed() {
    let sandbox = sandbox().await;
    let github = sandbox.github();
    let authorization = format!("authorization: token {}", github.token());
    let agent = "user-agent: t";
    for (headers, status, words) in [
        (vec![authorization.as_str()], 403, ""),
        (vec![agent], 401, "Requires authentication"),
        (
            vec![agent, "authorization: Bearer ghp_wrong"],
            401,
            "Bad credentials",
        ),
        (
            vec![
                agent,
                authorization.as_str(),
                "x-github-api-version: 2021-01-01",
            ],
            400,
            "2021-01-01",
        ),
        (
            vec![agent, authorization.as_str(), "accept: text/html"],
            415,
            "Accept",
        ),
        (
            vec![
                agent,
                authorization.as_str(),
                "accept: application/vnd.github.v3+json",
            ],
            200,
            "",
        ),
        (vec![agent, authorization.as_str()], 200, ""),
    ] {
        let answer = send(&github.url(), "GET", "/user", &headers, "").await;
        assert_eq!(answer.status, status, "{headers:?} {answer:?}");
        assert!(answer.message().contains(words), "{answer:?}");
    }
    let missing = admin(&github, "GET", "/repos/octo/none/actions/runners", "").await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.json()["status"], "404");
    assert_eq!(missing.message(), "Not Found");
    assert!(missing.json()["documentation_url"].is_string());
}

#[tokio::test]
async fn a_weak_token_may_not_manage_runners() {
    let sandbox = sandbox().await;
    let github = sandbox.github();
    let run = queue(&github);
    let cancel = format!("/repos/octo/repo/actions/runs/{run}/cancel");
    for (method, path) in [
        ("GET", RUNNERS),
        ("POST", JIT),
        ("POST", "/orgs/octo/actions/runners/registration-token"),
        ("GET", "/repos/octo/repo/actions/runners/downloads"),
        ("POST", cancel.as_str()),
    ] {
        let answer = ask(&github, &github.weak_token(), method, path, JIT_BODY).await;
        assert_eq!(answer.status, 403, "{path}");
        assert_eq!(
            answer.message(),
            "Resource not accessible by personal access token"
        );
    }
    let repository = ask(&github, &github.weak_token(), "GET", "/repos/octo/repo", "").await;
    assert_eq!(repository.json()["permissions"]["admin"], false);
    let repository = admin(&github, "GET", "/repos/octo/repo", "").await;
    assert_eq!(repository.json()["permissions"]["admin"], true);
    assert_eq!(github.runners(), []);
}

#[tokio::test]
async fn runners_come_in_pages() {
    let sandbox = sandbox().await;
    let github = sandbox.github();
    for number in 0..33 {
        github.add_runner(
            "octo/repo",
            &format!("r{number}"),
            &["a"],
            number == 3,
            false,
        );
    }
    github.add_runner("octo", "of the organisation", &["a"], true, true);
    let first = admin(&github, "GET", &format!("{RUNNERS}?per_page=10"), "").await;
    assert_eq!(first.json()["total_count"], 33);
    assert_eq!(first.json()["runners"].as_array().unwrap().len(), 10);
    let link = first.header("link").unwrap();
    let base = github.url();
    assert_eq!(
        link,
        format!(
            "<{base}{RUNNERS}?per_page=10&page=2>; rel=\"next\", \
             <{base}{RUNNERS}?per_page=10&page=4>; rel=\"last\""
        )
    );
    let last = admin(&github, "GET", &format!("{RUNNERS}?per_page=10&page=4"), "").await;
    assert_eq!(last.json()["runners"].as_array().unwrap().len(), 3);
    assert!(last.header("link").unwrap().contains("rel=\"prev\""));
    assert!(!last.header("link").unwrap().contains("rel=\"next\""));
    let default = admin(&github, "GET", RUNNERS, "").await;
    assert_eq!(default.json()["runners"].as_array().unwrap().len(), 30);

    let one = admin(&github, "GET", &format!("{RUNNERS}?name=r3"), "").await;
    assert_eq!(one.json()["total_count"], 1);
    let one = &one.json()["runners"][0];
    assert_eq!(
        (&one["name"], &one["status"], &one["busy"]),
        (&"r3".into(), &"online".into(), &false.into())
    );
    let of_organisation = admin(&github, "GET", "/orgs/octo/actions/runners", "").await;
    assert_eq!(of_organisation.json()["runners"][0]["busy"], true);
    assert_eq!(sandbox.shutdown().await, [""; 0]);
}

#[tokio::test]
async fn a_runner_is_found_and_removed() {
    let sandbox = sandbox().await;
    let github = sandbox.github();
    let created = admin(&github, "POST", JIT, JIT_BODY).await;
    assert_eq!(created.status, 201);
    let runner = &created.json()["runner"];
    assert_eq!(runner["status"], "offline");
    assert_eq!(runner["ephemeral"], true);
    let path = format!("{RUNNERS}/{}", runner["id"]);
    assert_eq!(
        admin(&github, "GET", &path, "").await.json()["labels"][1]["name"],
        "gpu"
    );
    let elsewhere = format!("/orgs/octo/actions/runners/{}", runner["id"]);
    assert_eq!(admin(&github, "GET", &elsewhere, "").await.status, 404);
    let gone = admin(&github, "DELETE", &path, "").await;
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    assert_eq!(admin(&github, "DELETE", &path, "").await.status, 404);
    assert_eq!(admin(&github, "GET", &path, "").await.status, 404);

    let id = github.add_runner("octo/repo", "busy", &["a"], true, true);
    let refused = admin(&github, "DELETE", &format!("{RUNNERS}/{id}"), "").await;
    assert_eq!(refused.status, 422);
    assert!(
        refused
            .message()
            .contains("Runner \"busy\" is still running a job")
    );
}

#[tokio::test]
async fn a_just_in_time_configuration_is_validated() {
    let sandbox = sandbox().await;
    let github = sandbox.github();
    for (body, status, words) in [
        ("", 400, "Problems parsing JSON"),
        ("[]", 400, "Body should be a JSON object"),
        (r#"{"name":"a"}"#, 422, "\"labels\" wasn't supplied."),
        (
            r#"{"name":"a","runner_group_id":1,"labels":[]}"#,
            422,
            "labels",
        ),
        (
            r#"{"name":"a","runner_group_id":1,"labels":["x,y"]}"#,
            422,
            "labels",
        ),
        (
            r#"{"name":"a","runner_group_id":1,"labels":"x"}"#,
            422,
            "is not an array",
        ),
        (
            r#"{"name":"","runner_group_id":1,"labels":["x"]}"#,
            422,
            "name",
        ),
        (
            r#"{"name":"a","runner_group_id":"1","labels":["x"]}"#,
            422,
            "is not an integer",
        ),
        (
            r#"{"name":"a","runner_group_id":7,"labels":["x"]}"#,
            404,
            "runner group",
        ),
        (
            r#"{"name":"a","runner_group_id":1,"labels":["x"],"work_folder":""}"#,
            422,
            "work_folder",
        ),
        (
            r#"{"name":"a","runner_group_id":1,"labels":["x"],"ephemeral":true}"#,
            422,
            "\"ephemeral\" is not a permitted key.",
        ),
    ] {
        let answer = admin(&github, "POST", JIT, body).await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        assert!(
            answer.message().contains(words),
            "{body}: {}",
            answer.message()
        );
    }
    assert_eq!(admin(&github, "POST", JIT, JIT_BODY).await.status, 201);
    let taken = admin(&github, "POST", JIT, JIT_BODY).await;
    assert_eq!(taken.status, 409);
    assert!(
        taken
            .message()
            .starts_with("Already exists - A runner with the name j1")
    );
    github.without_jit();
    assert_eq!(admin(&github, "POST", JIT, JIT_BODY).await.status, 404);
}

#[tokio::test]
async fn tokens_for_the_runner_program_are_secrets() {
    let sandbox = sandbox().await;
    let github = sandbox.github();
    for path in ["/repos/octo/repo", "/orgs/octo"] {
        for kind in ["registration-token", "remove-token"] {
            let path = format!("{path}/actions/runners/{kind}");
            let answer = admin(&github, "POST", &path, "").await;
            assert_eq!(answer.status, 201);
            let token = answer.json()["token"].as_str().unwrap().to_owned();
            assert!(sandbox.secrets().contains(&token));
            assert!(answer.json()["expires_at"].is_string());
        }
    }
}

#[tokio::test]
async fn runs_are_listed_newest_first() {
    let sandbox = sandbox().await;
    let github = sandbox.github();
    let (first, second) = (queue(&github), queue(&github));
    let runs = "/repos/octo/repo/actions/runs";
    let answer = admin(
        &github,
        "GET",
        &format!("{runs}?status=queued&per_page=1"),
        "",
    )
    .await;
    assert_eq!(answer.json()["total_count"], 2);
    assert_eq!(answer.json()["workflow_runs"][0]["id"], second);
    assert_eq!(
        admin(&github, "POST", &format!("{runs}/{first}/cancel"), "")
            .await
            .status,
        202
    );
    let one = admin(&github, "GET", &format!("{runs}/{first}"), "")
        .await
        .json();
    assert_eq!(
        (&one["status"], &one["conclusion"]),
        (&"completed".into(), &"cancelled".into())
    );
    for (query, count) in [
        ("status=cancelled", 1),
        ("status=completed", 1),
        ("status=success", 0),
        ("created=%3E=2020-01-01", 2),
        ("created=%3C2020-01-01", 0),
    ] {
        let answer = admin(&github, "GET", &format!("{runs}?{query}"), "").await;
        assert_eq!(answer.json()["total_count"], count, "{query}");
    }
    let rerun = format!("{runs}/{first}/rerun-failed-jobs");
    assert_eq!(admin(&github, "POST", &rerun, "{}").await.status, 201);
    let one = admin(&github, "GET", &format!("{runs}/{first}"), "")
        .await
        .json();
    assert_eq!(
        (&one["status"], &one["run_attempt"]),
        (&"queued".into(), &2.into())
    );
    assert_eq!(
        admin(&github, "GET", &format!("{runs}/1"), "").await.status,
        404
    );
    let elsewhere = format!("/repos/octo/other/actions/runs/{first}");
    github.queue_run("octo/other", "x", &[], JobScript::Shell("true".into()));
    assert_eq!(admin(&github, "GET", &elsewhere, "").await.status, 404);
}

#[tokio::test]
async fn rate_limits_are_told_and_kept() {
    let sandbox = sandbox().await;
    let github = sandbox.github();
    let one = admin(&github, "GET", "/user", "").await;
    let two = admin(&github, "GET", "/user", "").await;
    let remaining = |answer: &support::Answer| -> u64 {
        answer
            .header("x-ratelimit-remaining")
            .unwrap()
            .parse()
            .unwrap()
    };
    assert_eq!(remaining(&one) - 1, remaining(&two));
    assert_eq!(two.header("x-ratelimit-limit"), Some("5000"));
    assert_eq!(two.header("x-ratelimit-resource"), Some("core"));

    sandbox.fault("github:GET /user", Some(1), FaultKind::Throttled);
    let slow_down = admin(&github, "GET", "/user", "").await;
    assert_eq!(
        (slow_down.status, slow_down.header("retry-after")),
        (403, Some("1"))
    );
    assert!(slow_down.message().contains("secondary rate limit"));
    sandbox.fault("github:POST *", Some(1), FaultKind::Throttled);
    assert_eq!(admin(&github, "POST", JIT, JIT_BODY).await.status, 429);
    assert_eq!(github.runners(), []);
    sandbox.fault("github:GET /user", Some(1), FaultKind::Denied);
    let denied = admin(&github, "GET", "/user", "").await;
    assert_eq!(
        denied.message(),
        "Resource not accessible by personal access token"
    );

    github.exhaust_rate_limit(1);
    let refused = admin(&github, "GET", RUNNERS, "").await;
    assert_eq!((refused.status, remaining(&refused)), (403, 0));
    assert!(
        refused
            .message()
            .starts_with("API rate limit exceeded for user ID")
    );
    assert_eq!(
        admin(&github, "GET", "/rate_limit", "").await.json()["rate"]["remaining"],
        0
    );
    let reset: i64 = refused
        .header("x-ratelimit-reset")
        .unwrap()
        .parse()
        .unwrap();
    while now() < reset {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(admin(&github, "GET", RUNNERS, "").await.status, 200);
}

#[expect(clippy::disallowed_methods, reason = "the fake lives in real time")]
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[tokio::test]
async fn the_enterprise_server_s_address_works_too() {
    let sandbox = sandbox().await;
    let github = sandbox.github();
    let answer = admin(
        &github,
        "GET",
        "/api/v3/repos/octo/repo/actions/runners",
        "",
    )
    .await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("x-github-enterprise-version").is_some());
    assert_eq!(
        sandbox.calls()[0].name,
        "github:GET /repos/{owner}/{repo}/actions/runners"
    );
}

#[tokio::test]
async fn an_app_gets_a_token_for_its_installation() {
    use base64::Engine;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
    let sandbox = sandbox().await;
    let github = sandbox.github();
    let (id, key) = github.app();
    let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    let key =
        ring::signature::RsaKeyPair::from_der(&BASE64_STANDARD.decode(body).unwrap()).unwrap();
    let claims = format!(
        r#"{{"iat":{},"exp":{},"iss":"{id}"}}"#,
        now() - 60,
        now() + 540
    );
    let encode = |text: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(text);
    let signed = format!(
        "{}.{}",
        encode(br#"{"alg":"RS256","typ":"JWT"}"#),
        encode(claims.as_bytes())
    );
    let mut signature = vec![0; key.public().modulus_len()];
    let random = ring::rand::SystemRandom::new();
    key.sign(
        &ring::signature::RSA_PKCS1_SHA256,
        &random,
        signed.as_bytes(),
        &mut signature,
    )
    .unwrap();
    let jwt = format!("{signed}.{}", encode(&signature));

    for path in ["/repos/octo/repo/installation", "/orgs/octo/installation"] {
        let installation = ask(&github, &jwt, "GET", path, "").await;
        assert_eq!(installation.status, 200, "{installation:?}");
        let path = format!(
            "/app/installations/{}/access_tokens",
            installation.json()["id"]
        );
        let answer = ask(&github, &jwt, "POST", &path, "").await;
        assert_eq!(answer.status, 201);
        let token = answer.json()["token"].as_str().unwrap().to_owned();
        assert!(token.starts_with("ghs_") && sandbox.secrets().contains(&token));
        assert_eq!(ask(&github, &token, "GET", RUNNERS, "").await.status, 200);
        let user = ask(&github, &token, "GET", "/user", "").await;
        assert_eq!(user.message(), "Resource not accessible by integration");
    }
    assert_eq!(
        ask(&github, &jwt, "GET", "/repos/other/repo/installation", "")
            .await
            .status,
        404
    );
    assert_eq!(ask(&github, &jwt, "GET", RUNNERS, "").await.status, 401);
    let personal = admin(&github, "GET", "/repos/octo/repo/installation", "").await;
    assert_eq!(personal.message(), "A JSON web token could not be decoded");
}
