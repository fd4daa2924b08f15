use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use super::*;
use crate::cloud::gcp::scripted::{Answer, KEY, Server};

pub(super) const ENCODED: &str = "GOOGLE_APPLICATION_CREDENTIALS_DATA";
pub(super) const EMAIL: &str = "ci@proj.iam.gserviceaccount.com";
pub(super) const JWT_TYPE: &str = "urn:ietf:params:oauth:token-type:jwt";

pub(super) fn chain(server: &Server, more: &[(&str, &str)]) -> Chain {
    let (host, http) = server.machine(more);
    Chain::new(host, http)
}

/// Nothing answers but the metadata server of a machine that isn't Google's.
pub(super) async fn silent() -> Server {
    Server::start(|_, _| Answer::new(404, "")).await
}

/// What every service here answers when all is well.
pub(super) fn healthy(seen: &crate::cloud::gcp::scripted::Seen) -> Answer {
    match seen.line.as_str() {
        "POST /token" => {
            Answer::json(&json!({ "access_token": "oauth-token", "expires_in": 3599 }))
        }
        "POST /sts" => Answer::json(&json!({ "access_token": "sts-token", "expires_in": 3599,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token" })),
        "GET /oidc" => Answer::json(&json!({ "count": 1, "value": "pipeline-token" })),
        line if line.ends_with(":generateAccessToken") => Answer::json(
            &json!({ "accessToken": "iam-token", "expireTime": "2026-01-01T01:00:00Z" }),
        ),
        _ => Answer::new(404, ""),
    }
}

pub(super) async fn all_well() -> Server {
    Server::start(|seen, _| healthy(seen)).await
}

fn claims(token: &str, audience: &str) -> Value {
    let der = pem(KEY);
    let pair = ring::rsa::KeyPair::from_der(&der).unwrap();
    let key = DecodingKey::from_rsa_der(pair.public().as_ref());
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[audience]);
    // The clock of these tests stands still.
    validation.validate_exp = false;
    let decoded = jsonwebtoken::decode::<Value>(token, &key, &validation).unwrap();
    assert_eq!(decoded.header.kid.as_deref(), Some("kid1"));
    decoded.claims
}

fn pem(text: &str) -> Vec<u8> {
    use base64::Engine;
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    base64::prelude::BASE64_STANDARD.decode(body).unwrap()
}

/// GitHub's: an address that gives the job's token to who shows another, then STS, then the account.
pub(super) fn github(server: &Server, impersonate: bool) -> String {
    let mut file = json!({
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/g",
        "subject_token_type": JWT_TYPE,
        "token_url": format!("{}/sts", server.url),
        "credential_source": {
            "url": format!("{}/oidc?audience=x", server.url),
            "headers": { "Authorization": "Bearer request-token" },
            "format": { "type": "json", "subject_token_field_name": "value" },
        },
    });
    if impersonate {
        let url = format!(
            "{}/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken",
            server.url
        );
        file["service_account_impersonation_url"] = json!(url);
        file["service_account_impersonation"] = json!({ "token_lifetime_seconds": 1200 });
    }
    file.to_string()
}

#[tokio::test]
async fn a_key_signs_its_own_tokens_as_the_specification_says() {
    let server = silent().await;
    let key = server.key_file();
    let chain = chain(&server, &[(ENCODED, &key)]);
    let bearer = chain.bearer().await.unwrap();
    let claims = claims(bearer.expose(), "https://compute.googleapis.com/");
    assert_eq!(
        claims,
        json!({ "iss": EMAIL, "sub": EMAIL, "aud": "https://compute.googleapis.com/",
                "iat": 1_767_225_600, "exp": 1_767_229_200 })
    );
    assert_eq!(chain.account().await.unwrap().as_deref(), Some(EMAIL));
    assert_eq!(chain.project().await.unwrap(), "proj");
    assert_eq!(server.seen().len(), 0, "no round trip");
}

#[tokio::test]
async fn a_refused_self_signed_token_is_exchanged_with_the_compute_scope_alone() {
    let server = all_well().await;
    let key = server.key_file();
    let chain = chain(&server, &[(ENCODED, &key)]);
    let signed = chain.bearer().await.unwrap();
    assert!(chain.refused(&signed).await);
    // A second call that was under way with the same token hears the same.
    assert!(chain.refused(&signed).await);
    let given = chain.bearer().await.unwrap();
    assert_eq!(given.expose(), "oauth-token");
    assert!(!chain.refused(&given).await, "there is no third way");
    let assertion = server.all("POST /token")[0].param("assertion").unwrap();
    let audience = format!("{}/token", server.url);
    let claims = claims(&assertion, &audience);
    assert_eq!(claims["scope"], "https://www.googleapis.com/auth/compute");
    assert_eq!(claims["aud"], audience);
    assert_eq!(claims["iss"], EMAIL);
}

#[tokio::test]
async fn the_json_may_stand_in_base64_and_in_files() {
    use base64::Engine;
    let server = silent().await;
    let key = server.key_file();
    let encoded = base64::prelude::BASE64_STANDARD.encode(&key);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &key).unwrap();
        path.display().to_string()
    };
    let file = write("key.json");
    write("gcloud/application_default_credentials.json");
    write("home/.config/gcloud/application_default_credentials.json");
    let gcloud = folder.path().join("gcloud").display().to_string();
    let home = folder.path().join("home").display().to_string();
    let places = [
        (ENCODED, encoded.as_str()),
        ("GOOGLE_APPLICATION_CREDENTIALS", &file),
        ("CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", &file),
        ("CLOUDSDK_CONFIG", &gcloud),
        ("HOME", &home),
    ];
    for place in places {
        let chain = chain(&server, &[place]);
        assert_eq!(
            chain.account().await.unwrap().as_deref(),
            Some(EMAIL),
            "{place:?}"
        );
    }
}

#[tokio::test]
async fn a_machine_s_own_account_is_the_last_resort() {
    let server = Server::start(|seen, _| {
        assert_eq!(seen.header("metadata-flavor"), Some("Google"));
        let path = seen.line.trim_start_matches("GET /computeMetadata/v1/");
        match path {
            "" => Answer::metadata("instance/\nproject/\n", "1"),
            "instance/service-accounts/default/token" => Answer::metadata(
                r#"{"access_token":"machine-token","expires_in":3599,"token_type":"Bearer"}"#,
                "1",
            ),
            "instance/service-accounts/default/email" => Answer::metadata(EMAIL, "1"),
            "project/project-id" => Answer::metadata("machines-project", "1"),
            _ => Answer::no_metadata(),
        }
    })
    .await;
    let found = chain(&server, &[]);
    assert_eq!(found.bearer().await.unwrap().expose(), "machine-token");
    assert_eq!(found.account().await.unwrap().as_deref(), Some(EMAIL));
    assert_eq!(found.project().await.unwrap(), "machines-project");
    assert!(
        chain(&server, &[("NO_GCE_CHECK", "true")])
            .bearer()
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_machine_without_an_account_says_so() {
    let server = Server::start(|seen, _| match seen.line.as_str() {
        "GET /computeMetadata/v1/" => Answer::metadata("", "1"),
        _ => Answer::no_metadata(),
    })
    .await;
    let chain = chain(&server, &[]);
    let error = chain.bearer().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert_eq!(error.chain(), "this machine has no service account");
    assert_eq!(chain.account().await.unwrap(), None);
}

#[tokio::test]
async fn without_any_source_the_ways_are_named() {
    // Another cloud's metadata server is none.
    let error = chain(&silent().await, &[]).bearer().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    let hint = error.hints().join("\n");
    for way in [
        "GOOGLE_APPLICATION_CREDENTIALS_DATA",
        "GOOGLE_APPLICATION_CREDENTIALS ",
        "CLOUDSDK_AUTH_ACCESS_TOKEN",
        "gcloud auth application-default login",
        "service account",
    ] {
        assert!(hint.contains(way), "{way}: {hint}");
    }
}

#[tokio::test]
async fn the_order_of_places_and_of_projects() {
    let server = silent().await;
    let key = server.key_file();
    let token = ("CLOUDSDK_AUTH_ACCESS_TOKEN", " ready-token\n");
    let both = chain(&server, &[(ENCODED, &key), token]);
    assert!(both.bearer().await.unwrap().expose().starts_with("ey"));
    // A missing file isn't passed over, where it is named.
    let missing = ("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file");
    assert!(chain(&server, &[missing]).bearer().await.is_err());
    let ready = chain(
        &server,
        &[
            token,
            missing,
            ("GOOGLE_PROJECT", "last"),
            ("GCP_PROJECT", "first"),
        ],
    );
    assert_eq!(ready.bearer().await.unwrap().expose(), "ready-token");
    assert_eq!(ready.project().await.unwrap(), "first");
    assert_eq!(ready.account().await.unwrap(), None);
    let nowhere = chain(&server, &[token]).project().await.unwrap_err();
    assert_eq!(nowhere.kind(), Kind::Usage);
    assert!(nowhere.hints()[0].contains("GOOGLE_CLOUD_PROJECT"));
    // A key's own project goes before all.
    let keyed = chain(
        &server,
        &[(ENCODED, &key), ("CLOUDSDK_CORE_PROJECT", "other")],
    );
    assert_eq!(keyed.project().await.unwrap(), "proj");
}

#[test]
fn an_account_s_domain_names_its_project() {
    let cases = [
        ("ci@proj.iam.gserviceaccount.com", Some("proj")),
        (
            "ci@proj.example.com.iam.gserviceaccount.com",
            Some("example.com:proj"),
        ),
        ("123-compute@developer.gserviceaccount.com", None),
        ("proj@appspot.gserviceaccount.com", None),
        ("nobody", None),
    ];
    for (account, project) in cases {
        assert_eq!(
            impersonation::project_of(account).as_deref(),
            project,
            "{account}"
        );
    }
}

#[tokio::test]
async fn broken_credentials_say_what_is_wrong_and_show_nothing() {
    let server = silent().await;
    let external = |change: &dyn Fn(&mut Value)| {
        let mut file: Value = serde_json::from_str(&github(&server, true)).unwrap();
        change(&mut file);
        file.to_string()
    };
    let mut no_pem: Value = serde_json::from_str(&server.key_file()).unwrap();
    no_pem["private_key"] = json!("hunter2hunter2");
    let cases = [
        (
            "hunter2hunter2".to_owned(),
            "they aren't JSON (line 1, column 1)",
        ),
        (
            r#"{"type":"hunter2-no"}"#.to_owned(),
            "`hunter2-no` are not known here",
        ),
        (
            r#"{"private_key":"hunter2"}"#.to_owned(),
            "they have no `type`",
        ),
        (
            r#"{"type":"service_account","private_key":"hunter2hunter2"}"#.to_owned(),
            "missing field `client_email`",
        ),
        (
            r#"{"type":"service_account","client_email":["hunter2hunter2"]}"#.to_owned(),
            "a field has a value of the wrong type",
        ),
        (
            r#"{"type":"service_account","universe_domain":"s3nsapis.fr"}"#.to_owned(),
            "they are for s3nsapis.fr",
        ),
        (no_pem.to_string(), "signing with the private key of ci@"),
        (
            external(&|file| file["credential_source"]["environment_id"] = json!("aws1")),
            "tokens from AWS",
        ),
        (
            external(&|file| file["credential_source"]["executable"] = json!({})),
            "tokens from a program",
        ),
        (
            external(&|file| file["credential_source"]["certificate"] = json!({})),
            "tokens from a certificate",
        ),
        (
            external(&|file| file["credential_source"] = json!({})),
            "neither file nor url",
        ),
        (
            external(&|file| file["credential_source"]["format"] = json!({ "type": "json" })),
            "subject_token_field_name",
        ),
        (
            external(&|file| file["credential_source"]["format"] = json!({ "type": "xml" })),
            "`xml` is not known",
        ),
        (external(&|_| {}), "404"),
    ];
    for (text, expected) in cases {
        let error = chain(&server, &[(ENCODED, &text)])
            .bearer()
            .await
            .unwrap_err();
        let told = format!("{} {:?}", error.chain(), error.hints());
        assert!(told.contains(expected), "{expected}: {told}");
        assert_eq!(error.kind(), Kind::Denied, "{told}");
        assert!(
            !told.contains("hunter2hunter2") && !told.contains("request-token"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn nothing_prints_a_secret() {
    let server = all_well().await;
    let mut files = vec![server.key_file(), github(&server, true)];
    files.push(
        json!({ "type": "authorized_user", "client_id": "id", "client_secret": "client-secret",
                "refresh_token": "refresh-secret", "token_uri": format!("{}/token", server.url) })
        .to_string(),
    );
    for file in files {
        let chain = chain(&server, &[(ENCODED, &file)]);
        chain.bearer().await.unwrap();
        let text = format!("{:?} {:?} {:?}", chain.source, chain.signed, chain.given);
        for secret in [
            "MIIE",
            "eyJ",
            "request-token",
            "client-secret",
            "refresh-secret",
            "oauth-token",
            "iam-token",
        ] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}
