//! Profiles in the shared config and credentials files.
//! <https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>

use std::collections::BTreeMap;
use std::path::PathBuf;

use ini::{Ini, ParseOption};

use super::{
    Context, Found, Keys, assume, container, denied, environment, instance, process, web_identity,
};
use crate::cache::Expiring;
use crate::error::Result;
use crate::host::Host;
use crate::secret::Secret;

const NAME: &str = "AWS_PROFILE";

/// A profile's settings; some are secrets, so this is never printed.
type Profile = BTreeMap<String, String>;

pub(super) async fn keys(context: Context<'_>) -> Found {
    let host = context.host;
    let asked = host.env(NAME);
    let name = asked.unwrap_or("default");
    let profiles = read(host).await?;
    match (profiles.get(name), asked) {
        (Some(_), _) => resolve(context, &profiles, name).await,
        (None, None) => Ok(None),
        (None, Some(name)) => {
            let known: Vec<&str> = profiles.keys().map(String::as_str).collect();
            let hint = match known.is_empty() {
                true => "the shared config files hold no profile at all".to_owned(),
                false => format!("there is {}", known.join(", ")),
            };
            Err(denied(format!(
                "{NAME} names the profile {name}, which doesn't exist"
            ))
            .hint(hint))
        }
    }
}

/// Both files, the credentials file winning.
async fn read(host: &Host) -> Result<BTreeMap<String, Profile>> {
    let mut profiles: BTreeMap<String, Profile> = BTreeMap::new();
    for (variable, file, prefixed) in [
        ("AWS_CONFIG_FILE", "config", true),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", false),
    ] {
        let path = match (host.env(variable), host.home()) {
            (Some(path), Some(home)) if path.starts_with("~/") => home.join(&path[2..]),
            (Some(path), _) => PathBuf::from(path),
            (None, Some(home)) => home.join(".aws").join(file),
            (None, None) => continue,
        };
        let text = match tokio::fs::read_to_string(&path).await {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(denied(format!("reading {}", path.display())).caused_by(error));
            }
        };
        // The parser's complaint would quote the line, which may hold a key.
        let parsed = parse(&text, prefixed)
            .ok_or_else(|| denied(format!("{} is no AWS config file", path.display())))?;
        for (name, settings) in parsed {
            profiles.entry(name).or_default().extend(settings);
        }
    }
    Ok(profiles)
}

fn parse(text: &str, prefixed: bool) -> Option<BTreeMap<String, Profile>> {
    let options = ParseOption {
        enabled_quote: false,
        enabled_escape: false,
        enabled_indented_mutiline_value: true,
        ..ParseOption::default()
    };
    let file = Ini::load_from_str_opt(text, options).ok()?;
    let mut profiles = BTreeMap::new();
    for (section, settings) in &file {
        let Some(section) = section.map(str::trim) else {
            continue;
        };
        let name = match section.split_once(char::is_whitespace) {
            Some(("profile", name)) if prefixed => name.trim(),
            None if !prefixed || section == "default" => section,
            _ => continue,
        };
        let profile: &mut Profile = profiles.entry(name.to_owned()).or_default();
        for (key, value) in settings.iter() {
            profile.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    Some(profiles)
}

/// A role still to be taken, with the keys of the profile behind it.
struct Role<'a> {
    arn: &'a str,
    session: Option<&'a str>,
    external_id: Option<&'a str>,
}

async fn resolve(context: Context<'_>, profiles: &BTreeMap<String, Profile>, name: &str) -> Found {
    let mut roles: Vec<Role<'_>> = Vec::new();
    let mut visited: Vec<&str> = Vec::new();
    let mut name = name;
    let base = loop {
        let profile = profiles.get(name).ok_or_else(|| {
            denied(format!(
                "a source_profile names {name}, which doesn't exist"
            ))
        })?;
        let get = |key: &str| {
            profile
                .get(key)
                .map(String::as_str)
                .filter(|value| !value.is_empty())
        };
        // A profile that is its own source means its own static keys.
        let own_keys_meant = visited.last() == Some(&name);
        if visited.contains(&name) && !own_keys_meant {
            return Err(denied(format!(
                "the profile {name} is, in the end, its own source_profile"
            )));
        }
        visited.push(name);
        let Some(arn) = get("role_arn").filter(|_| !own_keys_meant) else {
            match base_keys(context, profile, name).await? {
                Some(keys) => break keys,
                // Settings alone, such as a region: no credentials are meant.
                None if roles.is_empty() => return Ok(None),
                None => return Err(denied(format!("the profile {name} holds no keys"))),
            }
        };
        if let Some(file) = get("web_identity_token_file") {
            let token = web_identity::token(file).await?;
            break assume::with_web_identity(context, &token, arn, get("role_session_name"))
                .await?;
        }
        if get("mfa_serial").is_some() {
            return Err(denied(format!("the profile {name} wants a second factor")).hint(
                "nobody can type it here: export temporary keys, for example with aws configure \
                 export-credentials --format env",
            ));
        }
        roles.push(Role {
            arn,
            session: get("role_session_name"),
            external_id: get("external_id"),
        });
        match (get("source_profile"), get("credential_source")) {
            (Some(source), _) => name = source,
            (None, Some(source)) => break from_source(context, source, name).await?,
            (None, None) => {
                return Err(denied(format!(
                    "the profile {name} has a role_arn, but none of source_profile, \
                     credential_source, web_identity_token_file"
                )));
            }
        }
    };
    let mut keys = base;
    for role in roles.iter().rev() {
        keys = assume::with_keys(
            context,
            &keys.value,
            role.arn,
            role.session,
            role.external_id,
        )
        .await?;
    }
    Ok(Some(keys))
}

async fn base_keys(context: Context<'_>, profile: &Profile, name: &str) -> Found {
    let get = |key: &str| {
        profile
            .get(key)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    };
    match (get("aws_access_key_id"), get("aws_secret_access_key")) {
        (Some(id), Some(secret)) => {
            return Ok(Some(Expiring {
                value: Keys {
                    id: id.to_owned(),
                    secret: Secret::new(secret),
                    token: get("aws_session_token").map(Secret::new),
                },
                expires: None,
            }));
        }
        (None, None) => {}
        _ => return Err(denied(format!("the profile {name} holds only half a key"))),
    }
    if let Some(command) = get("credential_process") {
        return process::keys(context, command, name).await.map(Some);
    }
    if ["sso_session", "sso_start_url", "login_session"]
        .iter()
        .any(|key| get(key).is_some())
    {
        return Err(denied(format!("the profile {name} signs in through a browser")).hint(
            "sign in with the AWS command line, then hand the keys over: eval \"$(aws configure \
             export-credentials --format env)\"",
        ));
    }
    Ok(None)
}

async fn from_source(context: Context<'_>, source: &str, name: &str) -> Result<Expiring<Keys>> {
    let found = match source {
        "Environment" => environment::keys(context)?,
        "EcsContainer" => container::keys(context).await?,
        "Ec2InstanceMetadata" => instance::keys(context).await?,
        _ => {
            return Err(denied(format!(
                "the profile {name} has an unknown credential_source: {source}"
            )));
        }
    };
    found.ok_or_else(|| {
        denied(format!(
            "the profile {name} takes its keys from {source}, and there are none"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Http;

    const CONFIG: &str = "
[default]
region = eu-west-1

[profile keys]
aws_access_key_id = AKCONFIG
aws_secret_access_key = from/config+\"quoted\"\\n
s3 =
  max_concurrent_requests = 20

[profile loop]
role_arn = arn:aws:iam::1:role/a
source_profile = loop2

[profile loop2]
role_arn = arn:aws:iam::1:role/b
source_profile = loop

[profile process]
credential_process = /bin/echo '{\"Version\": 1, \"AccessKeyId\": \"AKPROC\", \"SecretAccessKey\": \"s\", \"SessionToken\": \"t\"}'

[profile sso]
sso_session = corp

[sso-session corp]
sso_region = us-east-1
";

    const CREDENTIALS: &str = "
[both]
aws_access_key_id=AKBOTH
aws_secret_access_key=bothsecret
aws_session_token=bothtoken
[profile keys]
aws_access_key_id=NOT_A_PROFILE_IN_THIS_FILE
";

    async fn with(profile: Option<&str>) -> Found {
        let folder = tempfolder();
        std::fs::write(folder.join("config"), CONFIG).unwrap();
        std::fs::write(folder.join("credentials"), CREDENTIALS).unwrap();
        let mut env = vec![
            (
                "AWS_CONFIG_FILE",
                folder.join("config").display().to_string(),
            ),
            (
                "AWS_SHARED_CREDENTIALS_FILE",
                folder.join("credentials").display().to_string(),
            ),
        ];
        if let Some(profile) = profile {
            env.push((NAME, profile.to_owned()));
        }
        let host = Host::fixed(env);
        let http = Http::new(&host).unwrap();
        let found = keys(Context {
            host: &host,
            http: &http,
            region: "us-west-1",
        })
        .await;
        std::fs::remove_dir_all(folder).unwrap();
        found
    }

    fn tempfolder() -> PathBuf {
        let name = format!("runner-launch-{}", Host::system().random_id(12).unwrap());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    }

    #[tokio::test]
    async fn profiles_are_found_in_both_files() {
        let keys = with(Some("keys")).await.unwrap().unwrap().value;
        assert_eq!(keys.id, "AKCONFIG");
        assert_eq!(keys.secret.expose(), "from/config+\"quoted\"\\n");
        let keys = with(Some("both")).await.unwrap().unwrap().value;
        assert_eq!(
            (keys.id.as_str(), keys.token.unwrap().expose()),
            ("AKBOTH", "bothtoken")
        );
        let keys = with(Some("process")).await.unwrap().unwrap().value;
        assert_eq!(
            (keys.id.as_str(), keys.token.unwrap().expose()),
            ("AKPROC", "t")
        );
    }

    #[tokio::test]
    async fn a_default_without_keys_does_not_apply() {
        assert!(with(None).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_broken_is_said() {
        for (profile, expected) in [
            ("nobody", "doesn't exist"),
            ("loop", "its own source_profile"),
            ("sso", "browser"),
        ] {
            let error = with(Some(profile)).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.kind(), crate::error::Kind::Denied);
        }
    }
}
