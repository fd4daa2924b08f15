//! Tokens, as a launcher gets them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::files::SubjectTokenSource;
use super::identity::Identity;
use super::*;
use crate::calls::Wire;
use crate::clock;
use crate::oidc::Issuer;

const AUDIENCE: &str = "https://compute.googleapis.com/";

struct Lab {
    google: Google,
    identity: Arc<Identity>,
    _folder: tempfile::TempDir,
}

async fn lab() -> Lab {
    let folder = tempfile::tempdir().unwrap();
    let wire = Arc::new(Wire::new(Duration::ZERO, None));
    let issuer = Issuer::start(wire.clone()).await.unwrap();
    let google = Google::start(wire, folder.path(), issuer).await.unwrap();
    Lab {
        identity: google.identity(),
        google,
        _folder: folder,
    }
}

/// The answer is the status and the body.
async fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    let url = url::Url::parse(url).unwrap();
    let address = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let path = &url[url::Position::BeforePath..];
    let length = body.len();
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n"
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    stream
        .write_all(format!("{request}\r\n{body}").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

async fn form(url: &str, parameters: &[(&str, &str)]) -> (u16, Value) {
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(parameters)
        .finish();
    let kind = ("content-type", "application/x-www-form-urlencoded");
    send("POST", url, &[kind], &body).await
}

fn claims(change: &[(&str, Value)]) -> Value {
    let now = clock::now().as_second();
    let mut claims = json!({"iss": LAUNCHER, "sub": LAUNCHER, "iat": now, "exp": now + 3600});
    for (name, value) in change {
        claims[*name] = value.clone();
    }
    claims
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn a_token_that_its_bearer_signed_is_good_for_its_audience() {
    let lab = lab().await;
    let key = &lab.identity.launcher;
    let let_in = |token: String| {
        let principal = lab.identity.authenticate(Some(&bearer(&token)), AUDIENCE);
        principal.map(|principal| principal.scopes)
    };
    let now = clock::now().as_second();
    let good = key.sign(&claims(&[("aud", AUDIENCE.into())]));
    assert_eq!(let_in(good.clone()).unwrap(), [CLOUD_PLATFORM]);
    let scoped = key.sign(&claims(&[("scope", format!("{COMPUTE} x").into())]));
    assert_eq!(let_in(scoped).unwrap(), [COMPUTE, "x"]);
    for (why, change) in [
        (
            "audience",
            [("aud", json!("https://storage.googleapis.com/"))].as_slice(),
        ),
        ("nothing that it is for", &[]),
        (
            "both",
            &[("aud", json!(AUDIENCE)), ("scope", json!(COMPUTE))],
        ),
        (
            "subject",
            &[("aud", json!(AUDIENCE)), ("sub", json!("x@y"))],
        ),
        (
            "issuer",
            &[("aud", json!(AUDIENCE)), ("iss", json!(RUNNER))],
        ),
        (
            "too long",
            &[("aud", json!(AUDIENCE)), ("exp", json!(now + 3700))],
        ),
        (
            "over",
            &[("aud", json!(AUDIENCE)), ("exp", json!(now - 60))],
        ),
        (
            "not yet",
            &[("aud", json!(AUDIENCE)), ("iat", json!(now + 120))],
        ),
    ] {
        let error = let_in(key.sign(&claims(change))).unwrap_err();
        assert_eq!(
            (error.status, error.reason.as_str()),
            (401, "authError"),
            "{why}"
        );
    }
    let foreign = lab
        .identity
        .issuer
        .key()
        .sign(&claims(&[("aud", AUDIENCE.into())]));
    assert_eq!(let_in(foreign).unwrap_err().status, 401);
    lab.identity.refuse_self_signed(true);
    assert_eq!(let_in(good).unwrap_err().status, 401);
    let nobody = lab.identity.authenticate(None, AUDIENCE).unwrap_err();
    assert_eq!((nobody.status, nobody.reason.as_str()), (401, "required"));
}

#[tokio::test]
async fn a_key_is_exchanged_for_a_token() {
    let lab = lab().await;
    let key: Value = serde_json::from_str(&lab.identity.service_account_key()).unwrap();
    let url = key["token_uri"].as_str().unwrap();
    assert_eq!(key["client_email"], LAUNCHER);
    let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let sign = |change: &[(&str, Value)]| lab.identity.launcher.sign(&claims(change));
    let good = sign(&[("aud", url.into()), ("scope", COMPUTE.into())]);
    let (status, token) = form(url, &[grant, ("assertion", &good)]).await;
    assert_eq!(status, 200, "{token}");
    let header = bearer(token["access_token"].as_str().unwrap());
    let principal = lab.identity.authenticate(Some(&header), AUDIENCE).unwrap();
    assert_eq!(principal.email, LAUNCHER);
    assert_eq!(principal.scopes, [COMPUTE]);
    lab.identity.expire_tokens();
    assert!(lab.identity.authenticate(Some(&header), AUDIENCE).is_err());
    for (assertion, status, error) in [
        ("nonsense".to_owned(), 400, "invalid_grant"),
        (format!("{good}x"), 400, "invalid_grant"),
        (
            sign(&[("aud", AUDIENCE.into()), ("scope", COMPUTE.into())]),
            400,
            "invalid_grant",
        ),
        (sign(&[("aud", url.into())]), 400, "invalid_scope"),
        (
            sign(&[
                ("aud", url.into()),
                ("scope", COMPUTE.into()),
                ("sub", "a@b".into()),
            ]),
            401,
            "unauthorized_client",
        ),
    ] {
        let answer = form(url, &[grant, ("assertion", &assertion)]).await;
        assert_eq!(
            (answer.0, &answer.1["error"]),
            (status, &json!(error)),
            "{assertion}"
        );
    }
    assert_eq!(form(url, &[grant]).await.1["error"], "invalid_request");
    let other = form(url, &[("grant_type", "password")]).await;
    assert_eq!(other.1["error"], "unsupported_grant_type");
}

#[tokio::test]
async fn a_person_stays_signed_in() {
    let lab = lab().await;
    let file: Value = serde_json::from_str(&lab.identity.authorized_user()).unwrap();
    let text = |name: &str| file[name].as_str().unwrap();
    let ask = async |refresh: &str, secret: &str| {
        let parameters = [
            ("grant_type", "refresh_token"),
            ("client_id", text("client_id")),
            ("client_secret", secret),
            ("refresh_token", refresh),
        ];
        form(text("token_uri"), &parameters).await
    };
    let (status, token) = ask(text("refresh_token"), text("client_secret")).await;
    assert_eq!((status, &token["scope"]), (200, &json!(CLOUD_PLATFORM)));
    let header = bearer(token["access_token"].as_str().unwrap());
    let person = lab.identity.authenticate(Some(&header), AUDIENCE).unwrap();
    assert!(lab.identity.allows(&person, "compute.instances.create", ""));
    assert_eq!(
        ask("1//x", text("client_secret")).await.1["error"],
        "invalid_grant"
    );
    assert_eq!(ask(text("refresh_token"), "x").await.0, 401);
}

/// A federated launcher's way to its token.
async fn federate(file: &Value) -> (u16, Value) {
    let source = &file["credential_source"];
    let token = match source["file"].as_str() {
        Some(path) => std::fs::read_to_string(path).unwrap(),
        None => {
            let header = source["headers"]["Authorization"].as_str().unwrap();
            let url = source["url"].as_str().unwrap();
            assert_eq!(send("GET", url, &[], "").await.0, 401);
            send("GET", url, &[("authorization", header)], "")
                .await
                .1
                .to_string()
        }
    };
    let token = match source.get("format") {
        None => token,
        Some(format) => {
            let field = format["subject_token_field_name"].as_str().unwrap();
            let token: Value = serde_json::from_str(&token).unwrap();
            token[field].as_str().unwrap().to_owned()
        }
    };
    exchange(file, file["audience"].as_str().unwrap(), &token).await
}

async fn exchange(file: &Value, audience: &str, token: &str) -> (u16, Value) {
    let parameters = [
        (
            "grant_type",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        ),
        (
            "requested_token_type",
            "urn:ietf:params:oauth:token-type:access_token",
        ),
        (
            "subject_token_type",
            file["subject_token_type"].as_str().unwrap(),
        ),
        ("audience", audience),
        ("scope", CLOUD_PLATFORM),
        ("subject_token", token),
    ];
    form(file["token_url"].as_str().unwrap(), &parameters).await
}

#[tokio::test]
async fn a_workflow_gets_a_token_for_its_own() {
    let lab = lab().await;
    for source in [
        SubjectTokenSource::TextFile,
        SubjectTokenSource::JsonFile,
        SubjectTokenSource::Url,
    ] {
        let (file, _) = lab.identity.external_account(source, false);
        let file: Value = serde_json::from_str(&file).unwrap();
        let (status, token) = federate(&file).await;
        assert_eq!(status, 200, "{source:?}: {token}");
        let header = bearer(token["access_token"].as_str().unwrap());
        let principal = lab.identity.authenticate(Some(&header), AUDIENCE).unwrap();
        assert!(principal.email.starts_with("principal://"), "{principal:?}");
    }
    let (file, _) = lab
        .identity
        .external_account(SubjectTokenSource::TextFile, false);
    let file: Value = serde_json::from_str(&file).unwrap();
    let audience = file["audience"].as_str().unwrap();
    let own = |aud: &str| federation::subject_token(&lab.identity, aud);
    for (audience, token, error) in [
        ("projects/1", own(audience), "invalid_request"),
        (
            "//iam.googleapis.com/projects/1/x",
            own(audience),
            "invalid_target",
        ),
        (audience, own("https://github.com/octo"), "invalid_grant"),
        (audience, format!("{}x", own(audience)), "invalid_grant"),
        (
            audience,
            lab.identity.launcher.sign(&claims(&[])),
            "invalid_grant",
        ),
    ] {
        let answer = exchange(&file, audience, &token).await;
        assert_eq!(
            (answer.0, &answer.1["error"]),
            (400, &json!(error)),
            "{token}"
        );
    }
}

#[tokio::test]
async fn whoever_may_gets_a_service_accounts_token() {
    let lab = lab().await;
    let (file, _) = lab
        .identity
        .external_account(SubjectTokenSource::TextFile, true);
    let file: Value = serde_json::from_str(&file).unwrap();
    let (_, token) = federate(&file).await;
    let federated = bearer(token["access_token"].as_str().unwrap());
    let url = file["service_account_impersonation_url"].as_str().unwrap();
    let ask = async |url: &str, authorization: &str, body: Value| {
        send(
            "POST",
            url,
            &[("authorization", authorization)],
            &body.to_string(),
        )
        .await
    };
    let body = json!({"scope": [COMPUTE], "lifetime": "600s"});
    let (status, token) = ask(url, &federated, body.clone()).await;
    assert_eq!(status, 200, "{token}");
    let header = bearer(token["accessToken"].as_str().unwrap());
    let principal = lab.identity.authenticate(Some(&header), AUDIENCE).unwrap();
    assert_eq!(principal.email, LAUNCHER);
    assert_eq!(principal.scopes, [COMPUTE]);
    let expires: jiff::Timestamp = token["expireTime"].as_str().unwrap().parse().unwrap();
    assert!(expires.duration_since(clock::now()).as_secs() <= 600);
    let other = url.replace(LAUNCHER, RUNNER);
    for (url, authorization, body, expected) in [
        (
            other.as_str(),
            federated.as_str(),
            body.clone(),
            "PERMISSION_DENIED",
        ),
        // Its scope is Compute Engine's alone, and it may not act as itself either.
        (url, &header, body.clone(), "PERMISSION_DENIED"),
        (url, "Bearer x", body, "UNAUTHENTICATED"),
        (url, &federated, json!({"scope": []}), "INVALID_ARGUMENT"),
        (
            url,
            &federated,
            json!({"scope": [COMPUTE], "lifetime": "7200s"}),
            "INVALID_ARGUMENT",
        ),
        (
            url,
            &federated,
            json!({"scopes": [COMPUTE]}),
            "INVALID_ARGUMENT",
        ),
    ] {
        let answer = ask(url, authorization, body).await.1;
        assert_eq!(answer["error"]["status"], expected, "{answer}");
    }
}

#[tokio::test]
async fn permissions_are_the_accounts() {
    let lab = lab().await;
    let principal = |email: &str| Principal {
        email: email.into(),
        scopes: Vec::new(),
    };
    let (launcher, runner, reader) = (principal(LAUNCHER), principal(RUNNER), principal(READER));
    let identity = &lab.identity;
    let delete = "compute.instances.delete";
    assert!(identity.allows(&launcher, delete, ""));
    assert!(identity.allows(&runner, delete, ""));
    assert!(!identity.allows(&runner, "compute.instances.create", ""));
    assert!(!identity.allows(&reader, delete, ""));
    assert!(!identity.allows(&launcher, "compute.images.delete", ""));
    identity.deny(delete);
    assert!(!identity.allows(&launcher, delete, ""));
    identity.allow(delete);
    let act = "iam.serviceAccounts.actAs";
    for (account, expected) in [(LAUNCHER, true), (RUNNER, true), ("a@b", false)] {
        assert_eq!(
            identity.allows(&launcher, act, account),
            expected,
            "{account}"
        );
    }
    identity.refuse_act_as();
    assert!(!identity.allows(&launcher, act, LAUNCHER));
    identity.allow_only(&["compute.zones.*"]);
    assert!(identity.allows(&launcher, "compute.zones.list", ""));
    assert!(!identity.allows(&launcher, delete, ""));
    assert!(lab.google.metadata().host().starts_with("127.0.0.1:"));
}
