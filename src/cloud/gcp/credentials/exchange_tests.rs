use serde_json::{Value, json};

use super::tests::{EMAIL, ENCODED, JWT_TYPE, all_well, chain, github, healthy};
use super::*;
use crate::cloud::gcp::scripted::{Answer, Server};

#[tokio::test]
async fn a_pipeline_s_token_is_exchanged_and_impersonates() {
    let server = all_well().await;
    let file = github(&server, true);
    let chain = chain(&server, &[(ENCODED, &file)]);
    assert_eq!(chain.bearer().await.unwrap().expose(), "iam-token");
    assert_eq!(chain.account().await.unwrap().as_deref(), Some(EMAIL));
    assert_eq!(
        chain.project().await.unwrap(),
        "proj",
        "the account's domain"
    );
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].line, "GET /oidc");
    assert_eq!(seen[0].param("audience").as_deref(), Some("x"));
    assert_eq!(
        seen[0].header("authorization"),
        Some("Bearer request-token")
    );
    let form = |name| seen[1].param(name).unwrap_or_default();
    assert_eq!(
        form("grant_type"),
        "urn:ietf:params:oauth:grant-type:token-exchange"
    );
    assert_eq!(
        form("requested_token_type"),
        "urn:ietf:params:oauth:token-type:access_token"
    );
    assert_eq!(form("subject_token_type"), JWT_TYPE);
    assert_eq!(form("subject_token"), "pipeline-token");
    assert_eq!(form("scope"), PLATFORM_SCOPE);
    assert!(form("audience").starts_with("//iam.googleapis.com/projects/1/"));
    assert_eq!(seen[1].header("authorization"), None);
    assert_eq!(seen[2].header("authorization"), Some("Bearer sts-token"));
    assert_eq!(
        seen[2].json(),
        json!({ "scope": [COMPUTE_SCOPE], "lifetime": "1200s" })
    );
    // Tokens are kept.
    chain.bearer().await.unwrap();
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn federation_without_an_account_has_none_and_takes_its_project_from_a_variable() {
    let server = all_well().await;
    let file = github(&server, false);
    let chain = chain(
        &server,
        &[(ENCODED, &file), ("GOOGLE_CLOUD_PROJECT", "other")],
    );
    assert_eq!(chain.bearer().await.unwrap().expose(), "sts-token");
    assert_eq!(chain.account().await.unwrap(), None);
    assert_eq!(chain.project().await.unwrap(), "other");
}

#[tokio::test]
async fn a_file_s_token_is_read_plain_or_as_json() {
    let server = all_well().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let cases = [
        ("file-token\n", json!(null), "file-token"),
        ("file-token", json!({ "type": "text" }), "file-token"),
        (
            r#"{"id_token":"inner"}"#,
            json!({ "type": "json", "subject_token_field_name": "id_token" }),
            "inner",
        ),
    ];
    for (text, format, expected) in cases {
        std::fs::write(&path, text).unwrap();
        let mut file: Value = serde_json::from_str(&github(&server, false)).unwrap();
        // A file goes before an address.
        file["credential_source"]["file"] = json!(path);
        file["credential_source"]["format"] = format;
        if file["credential_source"]["format"].is_null() {
            file["credential_source"]
                .as_object_mut()
                .unwrap()
                .remove("format");
        }
        file["workforce_pool_user_project"] = json!("payer");
        let file = file.to_string();
        let before = server.all("POST /sts").len();
        chain(&server, &[(ENCODED, &file)]).bearer().await.unwrap();
        let form = &server.all("POST /sts")[before];
        assert_eq!(form.param("subject_token").as_deref(), Some(expected));
        assert_eq!(
            form.param("options").as_deref(),
            Some(r#"{"userProject":"payer"}"#)
        );
    }
    assert!(server.all("GET /oidc").is_empty());
}

#[tokio::test]
async fn a_signed_in_user_s_token_is_renewed() {
    let server = all_well().await;
    let file = json!({ "type": "authorized_user", "client_id": "id", "client_secret": "cs",
        "refresh_token": "rt", "quota_project_id": "payer",
        "token_uri": format!("{}/token", server.url) })
    .to_string();
    let chain = chain(&server, &[(ENCODED, &file)]);
    assert_eq!(chain.bearer().await.unwrap().expose(), "oauth-token");
    assert_eq!(chain.account().await.unwrap(), None);
    assert_eq!(
        chain.quota_project().await.unwrap().as_deref(),
        Some("payer")
    );
    assert_eq!(
        chain.project().await.unwrap(),
        "payer",
        "where nothing else names one"
    );
    let form = &server.seen()[0];
    for (name, value) in [
        ("grant_type", "refresh_token"),
        ("client_id", "id"),
        ("client_secret", "cs"),
        ("refresh_token", "rt"),
    ] {
        assert_eq!(form.param(name).as_deref(), Some(value), "{name}");
    }
}

#[tokio::test]
async fn an_account_is_impersonated_with_a_user_s_token() {
    let server = all_well().await;
    let url = format!(
        "{}/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken",
        server.url
    );
    let file = json!({ "type": "impersonated_service_account",
        "service_account_impersonation_url": url, "delegates": ["d@p.iam.gserviceaccount.com"],
        "source_credentials": { "type": "authorized_user", "client_id": "id",
            "client_secret": "cs", "refresh_token": "rt",
            "token_uri": format!("{}/token", server.url) } })
    .to_string();
    let chain = chain(&server, &[(ENCODED, &file)]);
    assert_eq!(chain.bearer().await.unwrap().expose(), "iam-token");
    assert_eq!(chain.account().await.unwrap().as_deref(), Some(EMAIL));
    let asked = &server.seen()[1];
    assert_eq!(asked.header("authorization"), Some("Bearer oauth-token"));
    assert_eq!(
        asked.json(),
        json!({ "scope": [COMPUTE_SCOPE], "lifetime": "3600s",
                "delegates": ["d@p.iam.gserviceaccount.com"] })
    );
}

#[tokio::test]
async fn a_refused_exchange_names_the_account_and_the_way_out() {
    let server = Server::start(|seen, _| match seen.line.as_str() {
        line if line.ends_with(":generateAccessToken") => Answer::refusal(
            403,
            "forbidden",
            "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
        ),
        "POST /token" => Answer::new(
            400,
            r#"{"error":"invalid_grant","error_description":"Invalid grant: account not found"}"#,
        ),
        _ => healthy(seen),
    })
    .await;
    let file = github(&server, true);
    let error = chain(&server, &[(ENCODED, &file)])
        .bearer()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(
        error
            .chain()
            .starts_with(&format!("getting a token for {EMAIL}: IAM answered"))
    );
    assert_eq!(error.hints(), ["grant iam.serviceAccounts.getAccessToken"]);

    let key = server.key_file();
    let chain = chain(&server, &[(ENCODED, &key)]);
    let signed = chain.bearer().await.unwrap();
    chain.refused(&signed).await;
    let error = chain.bearer().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(
        error.hints()[0].contains("this machine's clock"),
        "{error:?}"
    );
}
