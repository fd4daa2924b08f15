//! The fake GitLab answers as the real one does, refusals included.

mod support;

use std::time::Duration;

use sandbox::{FaultKind, GitLab, JobScript};
use support::gitlab::{ask, id_of, new_runner, owner, plain};
use support::sandbox;

const RUNNERS: &str = "/projects/octo%2Frepo/runners";

fn queue(gitlab: &GitLab, tags: &[&str]) -> u64 {
    let script = JobScript::Shell("true".into());
    gitlab.queue_pipeline("octo/repo", "train", tags, script)
}

#[tokio::test]
async fn a_request_must_prove_who_sends_it() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    let token = gitlab.token();
    let own = format!("private-token: {token}");
    let bearer = format!("authorization: Bearer {token}");
    let job = format!("job-token: {}", gitlab.job_token());
    for (path, headers, status) in [
        ("/user", vec![own.as_str()], 200),
        ("/user", vec![bearer.as_str()], 200),
        ("/user", vec![], 401),
        ("/user", vec!["private-token: glpat-wrong"], 401),
        ("/user", vec![job.as_str()], 401),
        ("/projects/octo%2Frepo", vec![], 404),
        ("/projects/octo%2Frepo", vec![job.as_str()], 404),
        (RUNNERS, vec![job.as_str()], 401),
        ("/version", vec![], 401),
    ] {
        let answer = plain(&gitlab, "GET", path, &headers, "").await;
        assert_eq!(answer.status, status, "{path} {headers:?} {answer:?}");
    }
    let wrong = plain(&gitlab, "GET", "/user", &["private-token: x"], "").await;
    assert_eq!(wrong.message(), "401 Unauthorized");
    let by_query = plain(
        &gitlab,
        "GET",
        &format!("/user?private_token={token}"),
        &[],
        "",
    )
    .await;
    assert_eq!(by_query.status, 200);

    for (token, words) in [
        (gitlab.token_with(&["api"]), "Token is expired"),
        (gitlab.token_with(&["api"]), "Token was revoked"),
    ] {
        if words.contains("expired") {
            gitlab.expire(&token);
        } else {
            gitlab.revoke(&token);
        }
        let answer = ask(&gitlab, &token, "GET", "/user", "").await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.json()["error"], "invalid_token");
        let description = answer.json()["error_description"].clone();
        assert!(
            description.as_str().unwrap().contains(words),
            "{description}"
        );
    }

    let unknown = owner(&gitlab, "GET", "/projects/1/wikis", "").await;
    assert_eq!(
        (unknown.status, &unknown.json()["error"]),
        (404, &"404 Not Found".into())
    );
    let wrong_method = owner(&gitlab, "PUT", "/user", "").await;
    assert_eq!(wrong_method.status, 405);
    let missing = owner(&gitlab, "GET", "/projects/octo%2Fnone", "").await;
    assert_eq!(
        (missing.status, missing.message().as_str()),
        (404, "404 Project Not Found")
    );
    let group = owner(&gitlab, "GET", "/groups/octo%2Frepo", "").await;
    assert_eq!(
        (group.status, group.message().as_str()),
        (404, "404 Group Not Found")
    );
    let sub_group = owner(&gitlab, "GET", "/groups/octo%2Fteam", "").await;
    assert_eq!(sub_group.json()["full_path"], "octo/team");
}

#[tokio::test]
async fn scopes_decide_what_a_token_may_do() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    let project = id_of(&gitlab, "projects", "octo/repo").await;
    let (id, _) = new_runner(&gitlab, "r1", "a").await;
    let pipeline = queue(&gitlab, &["none"]);
    let create = format!(r#"{{"runner_type":"project_type","project_id":{project}}}"#);
    let runner = format!("/runners/{id}");
    let cancel = format!("/projects/{project}/pipelines/{pipeline}/cancel");
    let calls = [
        ("GET", "/user"),
        ("GET", "/personal_access_tokens/self"),
        ("GET", RUNNERS),
        ("GET", &runner),
        ("POST", "/user/runners"),
        ("POST", &cancel),
        ("DELETE", &runner),
    ];
    for (scope, allowed) in [
        ("read_user", vec![0, 1]),
        ("read_api", vec![0, 1, 2, 3]),
        ("create_runner", vec![1, 4]),
        ("manage_runner", vec![1, 3, 6]),
    ] {
        let token = gitlab.token_with(&[scope]);
        for (index, (method, path)) in calls.iter().enumerate() {
            let body = if *path == "/user/runners" {
                &create
            } else {
                ""
            };
            let answer = ask(&gitlab, &token, method, path, body).await;
            if allowed.contains(&index) {
                assert!(answer.status < 300, "{scope} {path} {answer:?}");
                continue;
            }
            assert_eq!(answer.status, 403, "{scope} {path}");
            assert_eq!(answer.json()["error"], "insufficient_scope");
            let wanted = answer.json()["scope"].clone();
            assert!(wanted.as_str().unwrap().starts_with("api"), "{wanted}");
        }
    }
    let token = gitlab.token_with(&["read_api", "create_runner"]);
    let own = ask(&gitlab, &token, "GET", "/personal_access_tokens/self", "").await;
    assert_eq!(
        own.json()["scopes"],
        serde_json::json!(["read_api", "create_runner"])
    );
}

#[tokio::test]
async fn a_developer_may_not_manage_runners() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    let project = id_of(&gitlab, "projects", "octo/repo").await;
    let (id, _) = new_runner(&gitlab, "r1", "a").await;
    let weak = gitlab.weak_token();
    let body = format!(r#"{{"runner_type":"project_type","project_id":{project}}}"#);
    for (method, path, words) in [
        ("GET", RUNNERS, "403 Forbidden"),
        ("GET", "/groups/octo/runners", "403 Forbidden"),
        (
            "POST",
            "/user/runners",
            "403 Forbidden - Insufficient permissions",
        ),
        (
            "GET",
            &format!("/runners/{id}"),
            "403 Forbidden - No access granted",
        ),
        (
            "DELETE",
            &format!("/runners/{id}"),
            "403 Forbidden - No access granted",
        ),
    ] {
        let body = if method == "POST" { &body } else { "" };
        let answer = ask(&gitlab, &weak, method, path, body).await;
        assert_eq!(
            (answer.status, answer.message().as_str()),
            (403, words),
            "{path}"
        );
    }
    let shown = ask(&gitlab, &weak, "GET", "/projects/octo%2Frepo", "")
        .await
        .json();
    assert!(shown["runners_token"].is_null());
    let pipeline = queue(&gitlab, &["none"]);
    let path = format!("/projects/{project}/pipelines/{pipeline}/cancel");
    assert_eq!(
        ask(&gitlab, &weak, "POST", &path, "").await.json()["status"],
        "canceled"
    );
}

#[tokio::test]
async fn runners_come_in_pages_and_are_filtered() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    for number in 0..33 {
        let tags: &[&str] = if number == 3 { &["a", "b"] } else { &["a"] };
        gitlab.add_runner(
            "octo/repo",
            &format!("r{number}"),
            tags,
            number == 3,
            number == 3,
        );
    }
    gitlab.add_runner("octo", "of the group", &["a"], true, false);
    gitlab.add_runner("octo/team", "of the team", &["a"], true, false);
    let own = format!("{RUNNERS}?type=project_type");
    let first = owner(&gitlab, "GET", &format!("{own}&per_page=10"), "").await;
    assert_eq!(first.json().as_array().unwrap().len(), 10);
    let headers = [
        "x-total",
        "x-total-pages",
        "x-page",
        "x-next-page",
        "x-prev-page",
    ];
    let values = headers.map(|name| first.header(name).unwrap());
    assert_eq!(values, ["33", "4", "1", "2", ""]);
    let link = first.header("link").unwrap();
    let base = gitlab.url();
    assert!(
        link.starts_with(&format!(
            "<{base}/api/v4{RUNNERS}?type=project_type&page=2&per_page=10>; rel=\"next\""
        )),
        "{link}"
    );
    let last = owner(&gitlab, "GET", &format!("{own}&per_page=10&page=4"), "").await;
    assert_eq!(last.json().as_array().unwrap().len(), 3);
    assert_eq!(last.header("x-next-page"), Some(""));
    assert!(!last.header("link").unwrap().contains("rel=\"next\""));
    let default = owner(&gitlab, "GET", RUNNERS, "").await;
    assert_eq!(default.json().as_array().unwrap().len(), 20);
    assert_eq!(default.header("x-total"), Some("34"));

    let count = async |path: &str| {
        let answer = owner(&gitlab, "GET", path, "").await;
        assert_eq!(answer.status, 200, "{path} {answer:?}");
        answer.header("x-total").unwrap().parse::<usize>().unwrap()
    };
    assert_eq!(count(&format!("{RUNNERS}?tag_list=a,b")).await, 1);
    assert_eq!(
        count(&format!("{RUNNERS}?tag_list=a&status=online")).await,
        2
    );
    assert_eq!(count(&format!("{RUNNERS}?tag_list=c")).await, 0);
    assert_eq!(count("/groups/octo/runners").await, 1);
    assert_eq!(count("/groups/octo%2Fteam/runners").await, 2);
    let wrong = owner(&gitlab, "GET", &format!("{RUNNERS}?status=busy"), "").await;
    assert_eq!(wrong.status, 400);
    assert_eq!(wrong.json()["error"], "status does not have a valid value");

    let busy = owner(&gitlab, "GET", &format!("{RUNNERS}?tag_list=b"), "")
        .await
        .json();
    assert_eq!(busy[0]["description"], "r3");
    assert_eq!(busy[0]["job_execution_status"], "active");
    assert_eq!(
        (&busy[0]["online"], &busy[0]["tag_list"]),
        (&true.into(), &().into())
    );
    assert_eq!(sandbox.shutdown().await, [""; 0]);
}

#[tokio::test]
async fn a_runner_is_created_with_what_it_needs() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    let project = id_of(&gitlab, "projects", "octo/team/repo").await;
    let group = id_of(&gitlab, "groups", "octo/team").await;
    for (body, words) in [
        ("{}".into(), "runner_type is missing"),
        (
            r#"{"runner_type":"x"}"#.into(),
            "runner_type does not have a valid value",
        ),
        (
            r#"{"runner_type":"project_type"}"#.into(),
            "project_id is missing",
        ),
        (
            r#"{"runner_type":"project_type","project_id":"octo/repo"}"#.into(),
            "project_id is invalid",
        ),
        (
            format!(r#"{{"runner_type":"group_type","group_id":{project}}}"#),
            "400 Bad request - Missing/invalid scope",
        ),
        (
            format!(r#"{{"runner_type":"group_type","group_id":{group},"run_untagged":false}}"#),
            "400 Bad request - Tags list can not be empty when runner is not allowed to pick \
             untagged jobs",
        ),
        (
            format!(r#"{{"runner_type":"group_type","group_id":{group},"locked":"x"}}"#),
            "locked is invalid",
        ),
    ] {
        let answer = owner(&gitlab, "POST", "/user/runners", &body).await;
        let said = answer.json();
        let said = said["error"]
            .as_str()
            .or(said["message"].as_str())
            .unwrap()
            .to_owned();
        assert_eq!((answer.status, said.as_str()), (400, words), "{body}");
    }
    // A form is as good as JSON.
    let headers = [
        format!("private-token: {}", gitlab.token()),
        "content-type: application/x-www-form-urlencoded".into(),
    ];
    let headers = [headers[0].as_str(), headers[1].as_str()];
    let form = format!(
        "runner_type=group_type&group_id={group}&description=r1&tag_list=a,b&locked=true\
         &access_level=not_protected&unknown=x"
    );
    let made = plain(&gitlab, "POST", "/user/runners", &headers, &form).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("glrt-t3_") && made["token_expires_at"].is_null());
    assert!(sandbox.secrets().iter().any(|secret| secret == token));
    let view = gitlab.runners().remove(0);
    assert_eq!(
        (view.name.as_str(), view.scope.as_str(), view.is_group),
        ("r1", "octo/team", true)
    );
    assert_eq!(
        (view.tags, view.locked, view.run_untagged),
        (vec!["a".into(), "b".into()], true, true)
    );

    let path = format!("/runners/{}", made["id"]);
    let shown = owner(&gitlab, "GET", &path, "").await.json();
    assert_eq!(shown["status"], "never_contacted");
    assert!(shown["online"].is_null() && shown["contacted_at"].is_null());
    assert_eq!(shown["tag_list"], serde_json::json!(["a", "b"]));
    assert_eq!(shown["groups"][0]["id"], group);
    let paused = owner(&gitlab, "PUT", &path, r#"{"paused":true}"#)
        .await
        .json();
    assert_eq!(
        (&paused["paused"], &paused["status"]),
        (&true.into(), &"paused".into())
    );
    assert_eq!(owner(&gitlab, "PUT", &path, "{}").await.status, 400);

    let verified = plain(
        &gitlab,
        "POST",
        "/runners/verify",
        &headers[1..],
        &format!("token={token}"),
    )
    .await;
    assert_eq!(verified.status, 200);
    assert_eq!(gitlab.runners()[0].status, "online");
    assert_eq!(owner(&gitlab, "DELETE", &path, "").await.status, 204);
    let gone = owner(&gitlab, "DELETE", &path, "").await;
    assert_eq!(
        (gone.status, gone.message().as_str()),
        (404, "404 Not found")
    );
    assert_eq!(gitlab.runners(), []);
}

#[tokio::test]
async fn a_runner_deletes_itself_by_its_token() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    let (_, token) = new_runner(&gitlab, "r1", "a").await;
    let delete = async |body: &str| {
        let headers = ["content-type: application/json"];
        plain(&gitlab, "DELETE", "/runners", &headers, body).await
    };
    assert_eq!(delete("{}").await.json()["error"], "token is missing");
    assert_eq!(
        delete(r#"{"token":"glrt-x"}"#).await.message(),
        "403 Forbidden"
    );
    let body = format!(r#"{{"token":"{token}"}}"#);
    assert_eq!(delete(&body).await.status, 204);
    assert_eq!(delete(&body).await.status, 403);
    assert_eq!(sandbox.shutdown().await, [""; 0]);
}

#[tokio::test]
async fn an_older_server_knows_registration_tokens() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    let project = owner(&gitlab, "GET", "/projects/octo%2Frepo", "")
        .await
        .json();
    let token = project["runners_token"].as_str().unwrap();
    let body = format!(r#"{{"token":"{token}","description":"r1","tag_list":["a","b"]}}"#);
    let register = async || {
        let headers = ["content-type: application/json"];
        plain(&gitlab, "POST", "/runners", &headers, &body).await
    };
    let refused = register().await;
    assert_eq!(refused.status, 410);
    assert_eq!(
        refused.message(),
        "410 Gone - runner registration disallowed"
    );

    gitlab.before_user_runners();
    let new_way = owner(&gitlab, "POST", "/user/runners", "{}").await;
    assert_eq!(new_way.json()["error"], "404 Not Found");
    let version = owner(&gitlab, "GET", "/version", "").await.json();
    assert!(version["version"].as_str().unwrap().starts_with("15.11."));
    let made = register().await;
    assert_eq!(made.status, 201);
    let runner = gitlab.runners().remove(0);
    assert_eq!(
        (runner.id, runner.scope.as_str()),
        (made.json()["id"].as_u64().unwrap(), "octo/repo")
    );
    let listed = owner(&gitlab, "GET", RUNNERS, "").await.json();
    assert!(listed[0]["job_execution_status"].is_null());
    let wrong = plain(&gitlab, "POST", "/runners?token=x", &[], "").await;
    assert_eq!(wrong.message(), "403 Forbidden - invalid token supplied");
}

/// What the runner program asks.
async fn request_job(gitlab: &GitLab, token: &str) -> support::Answer {
    let body = format!(
        r#"{{"token":"{token}","info":{{"version":"18.6.0","executor":"shell",
            "features":{{"cancel_gracefully":true}}}}}}"#
    );
    let headers = ["content-type: application/json"];
    plain(gitlab, "POST", "/jobs/request", &headers, &body).await
}

#[tokio::test]
async fn a_job_goes_through_its_states() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    let (runner, token) = new_runner(&gitlab, "r1", "a").await;
    assert_eq!(request_job(&gitlab, "glrt-x").await.status, 403);
    assert_eq!(request_job(&gitlab, &token).await.status, 204);
    let pipeline = queue(&gitlab, &["a"]);
    let given = request_job(&gitlab, &token).await;
    assert_eq!(given.status, 201);
    let text = String::from_utf8(given.body).unwrap();
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap()
    };
    let (job, job_token) = (field("id="), field("token="));
    assert!(gitlab.runners()[0].busy);

    let project = "/projects/octo%2Frepo";
    let running = owner(
        &gitlab,
        "GET",
        &format!("/runners/{runner}/jobs?status=running"),
        "",
    )
    .await;
    assert_eq!(running.json()[0]["pipeline"]["id"], pipeline);
    assert_eq!(
        running.json()[0]["project"]["path_with_namespace"],
        "octo/repo"
    );
    let scoped = format!("{project}/jobs?scope[]=running&scope[]=pending");
    let listed = owner(&gitlab, "GET", &scoped, "").await.json();
    assert_eq!(listed[0]["runner"]["id"], runner);
    let one = owner(&gitlab, "GET", &format!("{project}/jobs/{job}"), "")
        .await
        .json();
    assert_eq!(one["pipeline"]["id"], pipeline);

    let header = format!("job-token: {job_token}");
    let path = format!("/jobs/{job}/trace");
    let append = async |range: &str, part: &str| {
        let range = format!("content-range: {range}");
        let headers = [header.as_str(), range.as_str(), "content-type: text/plain"];
        plain(&gitlab, "PATCH", &path, &headers, part).await
    };
    let part = append("0-3", "one\n").await;
    assert_eq!(
        (part.status, part.header("job-status")),
        (202, Some("running"))
    );
    assert_eq!(append("9-12", "two\n").await.status, 416);
    let trace = owner(&gitlab, "GET", &format!("{project}/jobs/{job}/trace"), "").await;
    assert_eq!(trace.body, b"one\n");

    let cancel = format!("{project}/pipelines/{pipeline}/cancel");
    assert_eq!(
        owner(&gitlab, "POST", &cancel, "").await.json()["status"],
        "canceling"
    );
    assert_eq!(
        append("4-7", "two\n").await.header("job-status"),
        Some("canceling")
    );
    let by_force = format!("{project}/jobs/{job}/cancel?force=true");
    assert_eq!(
        owner(&gitlab, "POST", &by_force, "").await.json()["status"],
        "canceled"
    );
    let late = append("8-12", "three").await;
    assert_eq!(
        (late.status, late.header("job-status")),
        (403, Some("canceled"))
    );
    assert!(!gitlab.runners()[0].busy);

    let retry = format!("{project}/pipelines/{pipeline}/retry");
    let again = owner(&gitlab, "POST", &retry, "").await;
    assert_eq!(
        (again.status, &again.json()["status"]),
        (201, &"pending".into())
    );
    let jobs = format!("{project}/pipelines/{pipeline}/jobs");
    let latest = owner(&gitlab, "GET", &jobs, "").await;
    assert_eq!(latest.header("x-total"), Some("1"));
    let all = owner(&gitlab, "GET", &format!("{jobs}?include_retried=true"), "").await;
    assert_eq!(all.header("x-total"), Some("2"));
    let old = owner(&gitlab, "POST", &format!("{project}/jobs/{job}/retry"), "").await;
    assert_eq!(old.message(), "403 Forbidden - Job is not retryable");
}

#[tokio::test]
async fn everything_can_lie_below_a_root() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    let before = gitlab.url();
    gitlab.below("/gitlab");
    assert_eq!(gitlab.url(), format!("{before}/gitlab"));
    let user = owner(&gitlab, "GET", "/user", "").await;
    assert_eq!(user.json()["username"], "octocat");
    let header = format!("private-token: {}", gitlab.token());
    let outside = support::send(&before, "GET", "/api/v4/user", &[&header], "").await;
    assert_eq!(outside.status, 404);
    gitlab.add_runner("octo/repo", "r1", &[], true, false);
    gitlab.add_runner("octo/repo", "r2", &[], true, false);
    let list = owner(&gitlab, "GET", &format!("{RUNNERS}?per_page=1"), "").await;
    let link = list.header("link").unwrap();
    assert!(
        link.contains(&format!("<{before}/gitlab/api/v4/projects/")),
        "{link}"
    );
    let env = gitlab.env();
    let value = |name: &str| env.iter().find(|(n, _)| n == name).unwrap().1.clone();
    assert_eq!(value("CI_API_V4_URL"), format!("{before}/gitlab/api/v4"));
    assert_eq!(
        value("CI_PROJECT_URL"),
        format!("{before}/gitlab/octo/repo")
    );
}

#[tokio::test]
async fn limits_and_faults_look_real() {
    let sandbox = sandbox().await;
    let gitlab = sandbox.gitlab();
    gitlab.exhaust_rate_limit(1);
    let refused = owner(&gitlab, "GET", "/user", "").await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.body, b"Retry later\n");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(owner(&gitlab, "GET", "/user", "").await.status, 200);

    let name = "gitlab:GET /projects/:id/runners";
    sandbox.fault(name, Some(1), FaultKind::Denied);
    sandbox.fault(name, Some(2), FaultKind::Status(502));
    let denied = owner(&gitlab, "GET", RUNNERS, "").await;
    assert_eq!(
        (denied.status, denied.message().as_str()),
        (403, "403 Forbidden")
    );
    assert_eq!(owner(&gitlab, "GET", RUNNERS, "").await.status, 502);
    assert_eq!(owner(&gitlab, "GET", RUNNERS, "").await.status, 200);
    let calls = sandbox.calls();
    let call = calls.iter().find(|call| call.name == name).unwrap();
    assert_eq!(call.service, "gitlab");
    assert_eq!(call.code.as_deref(), Some("403 Forbidden"));
}
