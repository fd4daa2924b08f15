use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::calls::Wire;
use crate::entra::{Entra, FederatedToken, LAUNCHER_KEY};
use crate::jwt::SigningKey;
use crate::{Config, clock};

struct Lab {
    entra: Entra,
    authority: String,
    _folder: tempfile::TempDir,
}

async fn lab() -> Lab {
    let wire = Arc::new(Wire::new(Duration::ZERO, None));
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::start(wire.clone()).await.unwrap();
    let config = Config::new("/bin/true");
    let entra = Entra::start(wire, &config, folder.path(), issuer);
    let entra = entra.await.unwrap();
    Lab {
        authority: entra.env()[0].1.clone(),
        entra,
        _folder: folder,
    }
}

pub(crate) async fn send(
    url: &str,
    method: &str,
    headers: &str,
    body: &str,
) -> (StatusCode, String) {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!(
        "{method} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n\
         {headers}\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.into())
}

impl Lab {
    /// Asks for a token with these changes to a good request; `None` takes a parameter away.
    async fn ask(&self, changes: &[(&str, Option<&str>)]) -> (u16, Value) {
        let mut form = std::collections::BTreeMap::from([
            ("grant_type", "client_credentials"),
            ("client_id", LAUNCHER),
            ("scope", "https://management.azure.com/.default"),
        ]);
        let mut tenant = TENANT;
        for (name, value) in changes {
            match value {
                Some(value) if *name == "tenant" => tenant = value,
                Some(value) => drop(form.insert(name, value)),
                None => drop(form.remove(name)),
            }
        }
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let (status, body) = send(
            &format!("{}/{tenant}/oauth2/v2.0/token", self.authority),
            "POST",
            "content-type: application/x-www-form-urlencoded\r\n",
            &body,
        )
        .await;
        (status.as_u16(), serde_json::from_str(&body).unwrap())
    }

    async fn assert(&self, assertion: &str) -> (u16, Value) {
        self.ask(&[
            ("client_assertion_type", Some(ASSERTION_TYPE)),
            ("client_assertion", Some(assertion)),
        ])
        .await
    }
}

#[tokio::test]
async fn a_secret_gets_a_token_that_resource_manager_takes() {
    let lab = lab().await;
    let secret = lab.entra.directory().client_secret.clone();
    let (status, body) = lab.ask(&[("client_secret", Some(&secret))]).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"], 3599);
    let header = format!("Bearer {}", body["access_token"].as_str().unwrap());
    let principal = lab.entra.directory().authenticate(Some(&header)).unwrap();
    assert_eq!(principal, Directory::launcher());
    assert!(
        lab.entra
            .directory()
            .wire
            .secrets()
            .contains(&header[7..].to_owned())
    );
}

#[tokio::test]
async fn mistakes_have_their_numbers() {
    let lab = lab().await;
    let secret = lab.entra.directory().client_secret.clone();
    let expired = lab.entra.directory().expired_secret.clone();
    let good = ("client_secret", Some(secret.as_str()));
    for (changes, status, kind, number) in [
        (
            vec![("client_secret", Some("wrong"))],
            401,
            "invalid_client",
            7_000_215,
        ),
        (
            vec![("client_secret", Some(&*expired))],
            401,
            "invalid_client",
            7_000_222,
        ),
        (vec![], 401, "invalid_client", 7_000_218),
        (
            vec![good, ("tenant", Some("nobody"))],
            400,
            "invalid_request",
            90002,
        ),
        (
            vec![good, ("client_id", Some("x"))],
            400,
            "unauthorized_client",
            700_016,
        ),
        (vec![good, ("scope", None)], 400, "invalid_request", 900_144),
        (
            vec![good, ("scope", Some("https://management.azure.com/user"))],
            400,
            "invalid_scope",
            1_002_012,
        ),
        (
            vec![good, ("scope", Some("https://example.org/.default"))],
            400,
            "invalid_resource",
            500_011,
        ),
        (
            vec![good, ("grant_type", Some("password"))],
            400,
            "unsupported_grant_type",
            70003,
        ),
    ] {
        let (code, body) = lab.ask(&changes).await;
        assert_eq!(
            (code, &body["error"], &body["error_codes"]),
            (status, &json!(kind), &json!([number])),
            "{body}"
        );
        let words = body["error_description"].as_str().unwrap();
        assert!(words.starts_with(&format!("AADSTS{number}: ")), "{words}");
    }
}

#[tokio::test]
async fn a_providers_token_is_checked_against_what_the_application_trusts() {
    let lab = lab().await;
    for (token, expected) in [
        (FederatedToken::Good, None),
        (FederatedToken::OfGitLab, None),
        (FederatedToken::Expired, Some(700_024)),
        (FederatedToken::OfAnother, Some(700_213)),
        (FederatedToken::ForAnother, Some(700_212)),
    ] {
        let file = lab.entra.federated_token_file(token).unwrap();
        let token = std::fs::read_to_string(file).unwrap();
        let (status, body) = lab.assert(&token).await;
        match expected {
            None => assert_eq!(status, 200, "{body}"),
            Some(number) => assert_eq!((status, &body["error_codes"]), (401, &json!([number]))),
        }
    }
    // Somebody else's signature.
    let other = SigningKey::new("k", LAUNCHER_KEY);
    let now = clock::now().as_second();
    let claims = json!({"iss": crate::oidc::ISSUER, "sub": crate::oidc::SUBJECT,
        "aud": "api://AzureADTokenExchange", "iat": now, "exp": now + 300});
    let (status, body) = lab.assert(&other.sign(&claims)).await;
    assert_eq!((status, &body["error_codes"]), (400, &json!([50013])));
    let mut claims = claims.clone();
    claims["iss"] = "https://gitlab.example".into();
    let (_, body) = lab.assert(&other.sign(&claims)).await;
    assert_eq!(body["error_codes"], json!([700_211]));
    assert_eq!(
        lab.assert("nonsense").await.1["error_codes"],
        json!([50027])
    );
}

#[tokio::test]
async fn a_job_asks_github_for_its_token() {
    let lab = lab().await;
    let env = lab.entra.issuer.env();
    let value = |name: &str| {
        env.iter()
            .find(|(known, _)| known == name)
            .unwrap()
            .1
            .clone()
    };
    let url = format!(
        "{}&audience=api%3A%2F%2FAzureADTokenExchange",
        value("ACTIONS_ID_TOKEN_REQUEST_URL")
    );
    assert_eq!(send(&url, "GET", "", "").await.0, 401);
    let header = format!(
        "authorization: bearer {}\r\n",
        value("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
    );
    let (status, body) = send(&url, "GET", &header, "").await;
    assert_eq!(status, 200);
    let body: Value = serde_json::from_str(&body).unwrap();
    let (status, body) = lab.assert(body["value"].as_str().unwrap()).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test]
async fn a_certificates_assertion_is_verified() {
    let lab = lab().await;
    let key = SigningKey::new("", LAUNCHER_KEY);
    let thumbprint = crate::entra::assertion::thumbprint();
    let here = format!("{}/{TENANT}/oauth2/v2.0/token", lab.authority);
    let now = clock::now().as_second();
    let claims = json!({"iss": LAUNCHER, "sub": LAUNCHER, "aud": here, "jti": clock::uuid(),
        "nbf": now, "exp": now + 600});
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    let header = |algorithm: &str| json!({"alg": algorithm, "typ": "JWT", "x5t#S256": thumbprint});
    let issuer_signed = SigningKey::new("", include_str!("../tenant.pem"));
    for (assertion, expected) in [
        (key.sign_with(&header("PS256"), &claims), None),
        (key.sign_with(&header("RS256"), &claims), None),
        (
            key.sign_with(&header("PS256"), &with("sub", "x".into())),
            Some(700_021),
        ),
        (
            key.sign_with(&header("PS256"), &with("aud", "x".into())),
            Some(700_023),
        ),
        (
            key.sign_with(&header("PS256"), &with("exp", (now - 3600).into())),
            Some(700_024),
        ),
        (
            issuer_signed.sign_with(&header("PS256"), &claims),
            Some(700_027),
        ),
        (
            key.sign_with(
                &json!({"alg": "PS256", "typ": "JWT", "x5t#S256": "other"}),
                &claims,
            ),
            Some(700_027),
        ),
    ] {
        let (status, body) = lab.assert(&assertion).await;
        match expected {
            None => assert_eq!(status, 200, "{body}"),
            Some(number) => assert_eq!((status, &body["error_codes"]), (401, &json!([number]))),
        }
    }
    let pem = std::fs::read_to_string(lab.entra.certificate().unwrap()).unwrap();
    assert!(pem.contains("BEGIN PRIVATE KEY") && pem.contains("BEGIN CERTIFICATE"));
}

#[test]
fn resource_manager_tells_why_a_token_is_none() {
    let wire = Arc::new(Wire::new(Duration::ZERO, None));
    let directory = Directory::new(wire, Duration::ZERO, Duration::ZERO);
    let token = |resource: &str, seconds| {
        let lifetime = SignedDuration::from_secs(seconds);
        let token = directory.token(&Directory::launcher(), resource, lifetime, json!({}));
        format!("Bearer {}", token.value)
    };
    let arm = "https://management.azure.com/";
    for (header, expected) in [
        (None, Some("AuthenticationFailed")),
        (
            Some("Basic x".to_owned()),
            Some("AuthenticationFailedInvalidHeader"),
        ),
        (
            Some("Bearer x".to_owned()),
            Some("InvalidAuthenticationToken"),
        ),
        (Some(token(arm, -1)), Some("ExpiredAuthenticationToken")),
        (
            Some(token("https://x.org", 60)),
            Some("InvalidAuthenticationTokenAudience"),
        ),
        (
            Some(token("http://127.0.0.1:5", 60)),
            Some("InvalidAuthenticationTokenAudience"),
        ),
        (Some(token(arm, 60)), None),
    ] {
        let outcome = directory.authenticate(header.as_deref());
        assert_eq!(outcome.err().map(|error| error.code), expected);
    }
    directory.resource_manager_is("http://127.0.0.1:5/");
    let header = token("http://127.0.0.1:5", 60);
    assert!(directory.authenticate(Some(&header)).is_ok());
}
