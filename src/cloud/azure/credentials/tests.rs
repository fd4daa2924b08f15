use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::*;
use crate::cloud::azure::scripted::{Answer, Seen, Server, TOKEN, token};

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const APPLICATION: [(&str, &str); 2] = [("AZURE_TENANT_ID", "tenant"), ("AZURE_CLIENT_ID", "app")];

/// A server whose Entra gives the token `entra`; the rest is answered by `script`.
async fn server(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Server {
    Server::start(move |seen, _| match seen.line.as_str() {
        TOKEN => token("entra"),
        _ => script(seen),
    })
    .await
}

fn nothing(_: &Seen) -> Answer {
    Answer::new(404, "")
}

/// What signing in brings in an environment.
async fn bearer(server: &Server, more: &[(&str, &str)]) -> Result<String> {
    let (host, http) = server.host(more);
    let token = Chain::new(host, http).bearer().await?;
    Ok(token.expose().to_owned())
}

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    APPLICATION.iter().chain(more).copied().collect()
}

#[tokio::test]
async fn a_client_secret_signs_in_and_comes_first() {
    let server = server(nothing).await;
    let env = with(&[
        ("AZURE_CLIENT_SECRET", "s3cr3t&+"),
        ("AZURE_FEDERATED_TOKEN", "jwt"),
        ("AZURE_CLIENT_CERTIFICATE_PATH", "/nowhere"),
    ]);
    assert_eq!(bearer(&server, &env).await.unwrap(), "entra");
    let seen = &server.all(TOKEN)[0];
    let scope = format!("{}/.default", server.url);
    for (name, value) in [
        ("grant_type", "client_credentials"),
        ("client_id", "app"),
        ("client_secret", "s3cr3t&+"),
        ("scope", scope.as_str()),
    ] {
        assert_eq!(seen.param(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(seen.param("client_assertion"), None);
    let (host, http) = server.host(&env);
    let secret = Chain::new(host, http).client_secret().unwrap().unwrap();
    assert!(!format!("{secret:?}").contains("s3cr3t"));
}

#[tokio::test]
async fn a_federated_token_signs_in_read_anew_each_time() {
    let server = server(nothing).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let path = file.to_str().unwrap();
    for text in ["jwt-1\n", "jwt-2\n"] {
        std::fs::write(&file, text).unwrap();
        let env = with(&[("AZURE_FEDERATED_TOKEN_FILE", path)]);
        assert_eq!(bearer(&server, &env).await.unwrap(), "entra");
    }
    let env = with(&[("AZURE_FEDERATED_TOKEN", "jwt-3")]);
    bearer(&server, &env).await.unwrap();
    let sent: Vec<_> = server
        .all(TOKEN)
        .iter()
        .map(|seen| {
            assert_eq!(
                seen.param("client_assertion_type").as_deref(),
                Some(JWT_BEARER)
            );
            assert_eq!(seen.param("client_secret"), None);
            seen.param("client_assertion").unwrap()
        })
        .collect();
    assert_eq!(sent, ["jwt-1", "jwt-2", "jwt-3"]);
    std::fs::write(&file, "\n").unwrap();
    for path in [path, "/nowhere"] {
        let env = with(&[("AZURE_FEDERATED_TOKEN_FILE", path)]);
        let error = bearer(&server, &env).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
        assert!(error.chain().contains(path), "{}", error.chain());
    }
}

#[tokio::test]
async fn a_github_job_s_own_token_signs_in() {
    let server = server(|seen| match seen.line.as_str() {
        "GET /oidc" => Answer::json(&json!({ "count": 1, "value": "job-jwt" })),
        _ => nothing(seen),
    })
    .await;
    let url = format!("{}/oidc?api-version=2.0", server.url);
    let github = [
        ("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_str()),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request"),
    ];
    assert_eq!(bearer(&server, &with(&github)).await.unwrap(), "entra");
    let asked = &server.all("GET /oidc")[0];
    assert_eq!(
        asked.param("audience").as_deref(),
        Some("api://AzureADTokenExchange")
    );
    assert_eq!(asked.param("api-version").as_deref(), Some("2.0"));
    assert_eq!(asked.header("authorization"), Some("Bearer request"));
    let sent = server.all(TOKEN)[0].param("client_assertion");
    assert_eq!(sent.as_deref(), Some("job-jwt"));
    // Without an application, the permission is for something else.
    let error = bearer(&server, &github).await.unwrap_err();
    assert_eq!(error.to_string(), "no Azure credentials were found");
    assert_eq!(server.all("GET /oidc").len(), 1);
}

#[tokio::test]
async fn a_github_job_that_may_not_is_told_how() {
    let server = server(|_| Answer::new(403, "request")).await;
    let url = format!("{}/oidc", server.url);
    let env = with(&[
        ("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_str()),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request"),
    ]);
    let error = bearer(&server, &env).await.unwrap_err();
    assert_eq!(
        error.chain(),
        "getting the GitHub job's own token: GitHub answered 403 Forbidden"
    );
    assert!(error.hints()[0].contains("id-token: write"));
}

/// A new key with its certificate, each in PEM.
fn certificate() -> (String, String, Vec<u8>) {
    // Made by `openssl req -x509 -newkey rsa:2048 -nodes -days 36500 -subj /CN=test`; it is known to
    // everybody, and opens nothing.
    let key = include_str!("test_key.pem").to_owned();
    let certificate = include_str!("test_certificate.pem").to_owned();
    let lines: String = certificate
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    (key, certificate, BASE64_STANDARD.decode(lines).unwrap())
}

fn part(jwt: &str, at: usize) -> Value {
    let part = jwt.split('.').nth(at).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn a_certificate_signs_in_by_an_assertion_that_its_key_has_signed() {
    let server = server(nothing).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("both.pem");
    let (key, certificate, der) = certificate();
    let (other, _) = other_certificate();
    // In any order, and with the issuer's beside it.
    std::fs::write(&file, format!("{other}{certificate}{key}")).unwrap();
    let path = ("AZURE_CLIENT_CERTIFICATE_PATH", file.to_str().unwrap());
    // A pipeline's own token doesn't stand before what was set expressly.
    let github = [
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "http://127.0.0.1:1/"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request"),
    ];
    let env = with(&[path, github[0], github[1]]);
    assert_eq!(bearer(&server, &env).await.unwrap(), "entra");
    let chained = with(&[path, ("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN", "true")]);
    bearer(&server, &chained).await.unwrap();

    let sent = server.all(TOKEN);
    assert_eq!(
        sent[0].param("client_assertion_type").as_deref(),
        Some(JWT_BEARER)
    );
    let jwt = sent[0].param("client_assertion").unwrap();
    let thumbprint = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, &der));
    assert_eq!(
        part(&jwt, 0),
        json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint })
    );
    let claims = part(&jwt, 1);
    let endpoint = format!("{}/tenant/oauth2/v2.0/token", server.url);
    assert_eq!(claims["aud"], endpoint.as_str());
    assert_eq!(
        (&claims["iss"], &claims["sub"]),
        (&json!("app"), &json!("app"))
    );
    assert_eq!(
        claims["exp"].as_i64(),
        claims["nbf"].as_i64().map(|nbf| nbf + 600)
    );
    assert_eq!(claims["jti"].as_str().unwrap().len(), 36);
    // By somebody else's implementation of the signature.
    let public =
        jsonwebtoken::DecodingKey::from_rsa_pem(include_str!("test_public.pem").as_bytes())
            .unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::PS256);
    validation.set_audience(&[&endpoint]);
    validation.validate_exp = false;
    jsonwebtoken::decode::<Value>(&jwt, &public, &validation).unwrap();

    let chain = part(&sent[1].param("client_assertion").unwrap(), 0)["x5c"].clone();
    assert_eq!(chain[0], BASE64_STANDARD.encode(&der), "its own first");
    assert_eq!(chain.as_array().unwrap().len(), 2);
}

/// One that isn't the key's, and a key that isn't RSA.
fn other_certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[tokio::test]
async fn a_file_that_can_t_sign_in_is_told_why() {
    let server = server(nothing).await;
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate, _) = certificate();
    let (other, elliptic) = other_certificate();
    let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
    let cases = [
        ("0\u{3}binary".to_owned(), "it isn't PEM", "openssl pkcs12"),
        (
            format!("{certificate}{encrypted}"),
            "is encrypted",
            "openssl pkey",
        ),
        (certificate.clone(), "no private key", ""),
        (key.clone(), "no certificate", "must hold"),
        (format!("{key}{other}"), "isn't the private key's", ""),
        (format!("{elliptic}{other}"), "RSA", ""),
    ];
    for (text, problem, hint) in cases {
        let file = folder.path().join("x.pem");
        std::fs::write(&file, &text).unwrap();
        let env = with(&[("AZURE_CLIENT_CERTIFICATE_PATH", file.to_str().unwrap())]);
        let error = bearer(&server, &env).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
        assert!(error.chain().contains(problem), "{}", error.chain());
        assert!(error.hints().concat().contains(hint), "{:?}", error.hints());
    }
    assert!(server.order().is_empty());
}

#[tokio::test]
async fn a_service_s_identity_signs_in() {
    let server = server(|seen| match seen.line.as_str() {
        "GET /msi/token" => Answer::json(
            &json!({ "access_token": "service", "expires_on": "1767229200", "token_type": "Bearer" }),
        ),
        _ => nothing(seen),
    })
    .await;
    let endpoint = format!("{}/msi/token", server.url);
    let env = [
        ("IDENTITY_ENDPOINT", endpoint.as_str()),
        ("IDENTITY_HEADER", "header-secret"),
        ("AZURE_CLIENT_ID", "one-of-several"),
    ];
    assert_eq!(bearer(&server, &env).await.unwrap(), "service");
    let seen = &server.all("GET /msi/token")[0];
    assert_eq!(seen.header("x-identity-header"), Some("header-secret"));
    assert_eq!(seen.param("api-version").as_deref(), Some("2019-08-01"));
    assert_eq!(seen.param("resource").as_deref(), Some(server.url.as_str()));
    assert_eq!(seen.param("client_id").as_deref(), Some("one-of-several"));
}

const IDENTITY: &str = "GET /metadata/identity/oauth2/token";

/// A machine of Azure's, whose identity endpoint answers by `script`.
async fn machine(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Server {
    server(move |seen| match seen.line.as_str() {
        "GET /metadata/instance/compute" => Answer::json(&json!({})),
        IDENTITY => script(seen),
        _ => nothing(seen),
    })
    .await
}

#[tokio::test]
async fn a_machine_s_identity_signs_in() {
    let server =
        machine(|_| Answer::json(&json!({ "access_token": "machine", "expires_in": "86399" })))
            .await;
    assert_eq!(bearer(&server, &[]).await.unwrap(), "machine");
    let chosen = [("AZURE_CLIENT_ID", "one-of-several")];
    assert_eq!(bearer(&server, &chosen).await.unwrap(), "machine");
    let seen = server.all(IDENTITY);
    assert_eq!(seen[0].header("metadata"), Some("true"));
    assert_eq!(seen[0].param("api-version").as_deref(), Some("2018-02-01"));
    assert_eq!(
        seen[0].param("resource").as_deref(),
        Some(server.url.as_str())
    );
    assert_eq!(seen[0].param("client_id"), None);
    assert_eq!(
        seen[1].param("client_id").as_deref(),
        Some("one-of-several")
    );
}

#[tokio::test]
async fn a_machine_without_identity_is_no_source() {
    let none = json!({ "error": "invalid_request", "error_description": "Identity not found" });
    let server = machine(move |_| Answer::json(&none).status(400)).await;
    let error = bearer(&server, &[]).await.unwrap_err();
    assert_eq!(error.to_string(), "no Azure credentials were found");
    for way in [
        "AZURE_CLIENT_SECRET",
        "AZURE_FEDERATED_TOKEN_FILE",
        "id-token: write",
        "AZURE_CLIENT_CERTIFICATE_PATH",
        "managed identity",
    ] {
        assert!(error.hints()[0].contains(way), "{:?}", error.hints());
    }
    let error = bearer(&server, &[("AZURE_CLIENT_ID", "app")])
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no identity with the client id app")
    );
    // Another cloud's service, at the same address.
    let elsewhere = self::server(|_| Answer::new(401, "")).await;
    assert!(bearer(&elsewhere, &[]).await.is_err());
    assert!(elsewhere.all(IDENTITY).is_empty());
}

#[tokio::test]
async fn half_an_application_is_an_error_that_names_the_other_half() {
    let server = server(nothing).await;
    let secret = ("AZURE_CLIENT_SECRET", "s");
    for (env, missing) in [
        (vec![secret, APPLICATION[0]], "AZURE_CLIENT_ID"),
        (vec![secret, APPLICATION[1]], "AZURE_TENANT_ID"),
        (
            vec![("AZURE_FEDERATED_TOKEN", "t"), APPLICATION[1]],
            "AZURE_TENANT_ID",
        ),
    ] {
        let error = bearer(&server, &env).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
        assert!(
            error.to_string().contains(&format!("{missing} isn't")),
            "{error}"
        );
    }
    let odd = [secret, ("AZURE_TENANT_ID", "a/b"), APPLICATION[1]];
    assert_eq!(bearer(&server, &odd).await.unwrap_err().kind(), Kind::Usage);
    assert!(server.order().is_empty());
}

#[tokio::test]
async fn a_refused_sign_in_says_why_and_a_busy_one_is_tried_again() {
    let server = Server::start(|_, before| match before {
        0 => Answer::new(400, r#"{"error":"temporarily_unavailable","error_description":"AADSTS90033: x"}"#),
        1 => Answer::new(429, "").header("Retry-After", "0"),
        _ => Answer::new(
            401,
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided. Trace ID: x"}"#,
        ),
    })
    .await;
    let error = bearer(&server, &with(&[("AZURE_CLIENT_SECRET", "s3cr3t")]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert_eq!(
        error.chain(),
        "signing in to Azure as the application app: Microsoft Entra answered AADSTS7000215: \
         Invalid client secret provided."
    );
    assert!(error.hints()[0].contains("not its id"));
    assert_eq!(server.order().len(), 3);
}
