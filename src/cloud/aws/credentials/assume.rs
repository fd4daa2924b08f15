//! A role's temporary keys, from STS.

use jiff::Timestamp;
use serde::Deserialize;

use super::{Context, Keys};
use crate::cache::Expiring;
use crate::cloud::aws::client::{Query, exchange};
use crate::error::Result;
use crate::http::Policy;
use crate::secret::Secret;

/// What our sessions are called where nobody says otherwise.
pub(super) const SESSION: &str = "runner-launch";

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "AssumeRoleResult", alias = "AssumeRoleWithWebIdentityResult")]
    result: Outcome,
}

#[derive(Deserialize)]
struct Outcome {
    #[serde(rename = "Credentials")]
    credentials: Given,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    access_key_id: String,
    secret_access_key: Secret,
    session_token: Secret,
    expiration: Timestamp,
}

/// By somebody's keys.
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
pub(super) async fn with_keys(
    context: Context<'_>,
    keys: &Keys,
    role: &str,
    session: Option<&str>,
    external_id: Option<&str>,
) -> Result<Expiring<Keys>> {
    let mut query = Query::sts("AssumeRole")
        .set("RoleArn", role)
        .set("RoleSessionName", session.unwrap_or(SESSION));
    if let Some(external_id) = external_id {
        query = query.set("ExternalId", external_id);
    }
    ask(context, query, Some(keys), role).await
}

/// By a token of an identity provider.
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>
pub(super) async fn with_web_identity(
    context: Context<'_>,
    token: &Secret,
    role: &str,
    session: Option<&str>,
) -> Result<Expiring<Keys>> {
    let query = Query::sts("AssumeRoleWithWebIdentity")
        .set("RoleArn", role)
        .set("RoleSessionName", session.unwrap_or(SESSION))
        .set("WebIdentityToken", token.expose());
    ask(context, query, None, role).await
}

async fn ask(
    context: Context<'_>,
    query: Query,
    keys: Option<&Keys>,
    role: &str,
) -> Result<Expiring<Keys>> {
    let Context { host, http, region } = context;
    // Repeating it only makes another session of the same role.
    let answer: Result<Answer, _> =
        exchange(host, http, region, &query, keys, Policy::IDEMPOTENT).await;
    let given = answer
        .map_err(|failure| failure.during(format!("taking the role {role}")))?
        .result
        .credentials;
    Ok(Expiring {
        value: Keys {
            id: given.access_key_id,
            secret: given.secret_access_key,
            token: Some(given.session_token),
        },
        expires: Some(given.expiration),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_answer_is_read() {
        let answer: Answer = quick_xml::de::from_str(
            r#"<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
                 <AssumeRoleWithWebIdentityResult>
                   <SubjectFromWebIdentityToken>amzn1.account.AF6</SubjectFromWebIdentityToken>
                   <Audience>client.5498841531868486423.1548@apps.example.com</Audience>
                   <AssumedRoleUser>
                     <Arn>arn:aws:sts::123456789012:assumed-role/F/app1</Arn>
                     <AssumedRoleId>AROACLKWSDQRAOEXAMPLE:app1</AssumedRoleId>
                   </AssumedRoleUser>
                   <Credentials>
                     <SessionToken>AQoDYXdzEE0a8ANXXXXXXXXNO1ewxE5TijQyp+IEXAMPLE</SessionToken>
                     <SecretAccessKey>wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY</SecretAccessKey>
                     <Expiration>2014-10-24T23:00:23Z</Expiration>
                     <AccessKeyId>ASgeIAIOSFODNN7EXAMPLE</AccessKeyId>
                   </Credentials>
                   <Provider>www.amazon.com</Provider>
                 </AssumeRoleWithWebIdentityResult>
                 <ResponseMetadata><RequestId>ad4</RequestId></ResponseMetadata>
               </AssumeRoleWithWebIdentityResponse>"#,
        )
        .unwrap();
        let given = answer.result.credentials;
        assert_eq!(given.access_key_id, "ASgeIAIOSFODNN7EXAMPLE");
        assert_eq!(given.expiration.to_string(), "2014-10-24T23:00:23Z");
    }
}
