//! The options that say which forge is served, and how we prove who we are. What isn't said is
//! inferred: from the CI's variables, then from the folder's Git remote.

use std::path::Path;

use ini::Ini;
use url::Url;

use super::Given;
use crate::host::Host;
use crate::secret::Secret;
use crate::spec::{Access, Driver, ForgeSpec, Target};

pub(super) fn read(
    given: &mut Given,
    host: &Host,
    mistakes: &mut Vec<String>,
) -> Option<ForgeSpec> {
    let named = given.parsed("driver", mistakes, |text| match text {
        "github" => Ok(Driver::Github),
        "gitlab" => Ok(Driver::Gitlab),
        _ => Err(format!("`{text}` is neither github nor gitlab")),
    });
    let place = place(given, host, named, mistakes);
    let driver = named.or_else(|| infer_driver(place.as_ref(), host));
    if driver.is_none() && place.is_some() {
        mistakes
            .push("--driver: can't tell whether this is GitHub or GitLab; say which".to_owned());
    }
    let access = access(given, host, driver, mistakes);
    let (driver, place) = (driver?, place?);
    let segments: Vec<&str> = place
        .path
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    let origin = given.origin("repo");
    let well_formed = |part: &&str| {
        part.chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    if !segments.iter().all(well_formed) {
        mistakes.push(format!(
            "{origin}: `{}` is no repository's path",
            place.path
        ));
        return None;
    }
    let path = segments.join("/");
    let target = match (driver, segments.len()) {
        (Driver::Github | Driver::Gitlab, 1) => Target::Organization(path),
        (Driver::Github, 2) | (Driver::Gitlab, 2..) => Target::Repository(path),
        _ => {
            mistakes.push(format!(
                "{origin}: `{}` is no repository, organisation or group",
                place.path
            ));
            return None;
        }
    };
    let mut target_url = place.server.clone();
    target_url.set_path(&format!(
        "{}/{}",
        place.server.path().trim_end_matches('/'),
        target.path()
    ));
    let api = match driver {
        Driver::Github => github_api(&place.server, host, mistakes)?,
        Driver::Gitlab => gitlab_api(&place.server, host, mistakes)?,
    };
    Some(ForgeSpec {
        driver,
        api,
        target_url,
        target,
        access: access?,
        launcher: host
            .env("CI_JOB_ID")
            .filter(|_| driver == Driver::Gitlab)
            .and_then(|id| id.parse().ok()),
    })
}

/// A server and a path on it.
struct Place {
    /// With the relative root that a GitLab server may live below.
    server: Url,
    path: String,
}

fn place(
    given: &Given,
    host: &Host,
    driver: Option<Driver>,
    mistakes: &mut Vec<String>,
) -> Option<Place> {
    if given.one("repo").is_some() {
        return given.parsed("repo", mistakes, |text| parse_place(text, host, driver));
    }
    let inferred = host
        .env("GITHUB_REPOSITORY")
        .or_else(|| host.env("CI_PROJECT_URL"))
        .map(str::to_owned)
        .or_else(|| git_remote(host));
    let Some(text) = inferred else {
        mistakes.push(
            "--repo: not in a pipeline and no Git remote here, so say which repository \
             (or organisation) the runner serves"
                .to_owned(),
        );
        return None;
    };
    match parse_place(&text, host, driver) {
        Ok(place) => Some(place),
        Err(complaint) => {
            mistakes.push(format!("--repo: {complaint}"));
            None
        }
    }
}

/// An address, `git@host:path`, or a bare path on the pipeline's own server.
fn parse_place(text: &str, host: &Host, driver: Option<Driver>) -> Result<Place, String> {
    let complaint = || {
        format!(
            "`{}` is neither an address nor owner/name",
            without_user(text)
        )
    };
    let trimmed = text.trim_end_matches('/');
    let trimmed = trimmed.strip_suffix(".git").unwrap_or(trimmed);
    if trimmed.contains("://") {
        let mut url = Url::parse(trimmed).map_err(|_| complaint())?;
        let path = url.path().to_owned();
        let by_ssh = url.scheme() == "ssh";
        if by_ssh {
            url = Url::parse(&format!(
                "https://{}",
                url.host_str().ok_or_else(complaint)?
            ))
            .map_err(|_| complaint())?;
        }
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(complaint());
        }
        url.set_path("");
        url.set_query(None);
        url.set_fragment(None);
        // A clone address may carry a token: it isn't ours to use, nor to show.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        return Ok(below_root(url, &path, by_ssh, host));
    }
    if let Some((server, path)) = trimmed.split_once(':') {
        let server = server.rsplit('@').next().unwrap_or(server);
        let server = Url::parse(&format!("https://{server}")).map_err(|_| complaint())?;
        return Ok(below_root(server, path, true, host));
    }
    if trimmed.is_empty() || trimmed.contains(char::is_whitespace) {
        return Err(complaint());
    }
    let server = match driver {
        Some(Driver::Gitlab) => host.env("CI_SERVER_URL").unwrap_or("https://gitlab.com"),
        Some(Driver::Github) => host
            .env("GITHUB_SERVER_URL")
            .unwrap_or("https://github.com"),
        None => host
            .env("GITHUB_SERVER_URL")
            .or_else(|| host.env("CI_SERVER_URL"))
            .unwrap_or("https://github.com"),
    };
    let server = Url::parse(server).map_err(|_| format!("`{server}` is no server's address"))?;
    Ok(Place {
        server,
        path: trimmed.to_owned(),
    })
}

/// Takes the relative root of the pipeline's own GitLab out of a path on it. Paths for SSH have none.
fn below_root(server: Url, path: &str, by_ssh: bool, host: &Host) -> Place {
    let own = host
        .env("CI_SERVER_URL")
        .and_then(|url| Url::parse(url).ok())
        .filter(|own| {
            own.origin() == server.origin() || (by_ssh && own.host_str() == server.host_str())
        });
    let path = path.trim_start_matches('/');
    let Some(own) = own else {
        return Place {
            server,
            path: path.to_owned(),
        };
    };
    let root = format!("{}/", own.path().trim_matches('/'));
    let path = match by_ssh {
        true => path,
        false => path.strip_prefix(&root).unwrap_or(path),
    };
    let path = path.to_owned();
    Place { server: own, path }
}

fn without_user(text: &str) -> &str {
    text.rsplit('@').next().unwrap_or(text)
}

/// The `origin` remote of the repository around the current folder.
fn git_remote(host: &Host) -> Option<String> {
    let mut folder = Path::new(host.env("PWD")?);
    loop {
        if let Ok(config) = Ini::load_from_file(folder.join(".git/config")) {
            return config
                .section(Some("remote \"origin\""))?
                .get("url")
                .map(str::to_owned);
        }
        folder = folder.parent()?;
    }
}

fn infer_driver(place: Option<&Place>, host: &Host) -> Option<Driver> {
    let server = place?.server.host_str()?;
    let is_own = |name: &str| {
        let own = host.env(name).and_then(|url| Url::parse(url).ok());
        own.is_some_and(|url| url.host_str() == Some(server))
    };
    if server.contains("github") || server.ends_with(".ghe.com") || is_own("GITHUB_SERVER_URL") {
        Some(Driver::Github)
    } else if server.contains("gitlab") || is_own("CI_SERVER_URL") {
        Some(Driver::Gitlab)
    } else {
        None
    }
}

/// The pipeline's own API address where the server is the pipeline's own; else by convention.
/// <https://docs.github.com/en/enterprise-server@latest/rest/quickstart>
fn github_api(server: &Url, host: &Host, mistakes: &mut Vec<String>) -> Option<Url> {
    let own = host
        .env("GITHUB_SERVER_URL")
        .and_then(|url| Url::parse(url).ok());
    let same = own.is_none_or(|own| own.origin() == server.origin());
    let text = match (host.env("GITHUB_API_URL"), server.host_str()) {
        (Some(api), _) if same => api.to_owned(),
        (_, Some("github.com")) => "https://api.github.com".to_owned(),
        (_, Some(tenant)) if tenant.ends_with(".ghe.com") => format!("https://api.{tenant}"),
        _ => format!("{}/api/v3", server.as_str().trim_end_matches('/')),
    };
    address("GITHUB_API_URL", &text, mistakes)
}

fn gitlab_api(server: &Url, host: &Host, mistakes: &mut Vec<String>) -> Option<Url> {
    let own = host
        .env("CI_SERVER_URL")
        .and_then(|url| Url::parse(url).ok());
    let same = own.is_some_and(|own| own.origin() == server.origin());
    let text = match host.env("CI_API_V4_URL") {
        Some(api) if same => api.to_owned(),
        _ => format!("{}/api/v4", server.as_str().trim_end_matches('/')),
    };
    address("CI_API_V4_URL", &text, mistakes)
}

fn address(name: &str, text: &str, mistakes: &mut Vec<String>) -> Option<Url> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Some(url),
        _ => {
            mistakes.push(format!("{name}: `{text}` is no address"));
            None
        }
    }
}

fn access(
    given: &Given,
    host: &Host,
    driver: Option<Driver>,
    mistakes: &mut Vec<String>,
) -> Option<Access> {
    let id = given.one("github-app-id").map(str::to_owned);
    let key = given.one("github-app-private-key").map(Secret::new);
    let installation = given.parsed("github-app-installation-id", mistakes, |text| {
        text.parse().map_err(|_| format!("`{text}` is no number"))
    });
    match (id, key) {
        (Some(_), Some(_)) if given.by_flag("token") => {
            mistakes.push("--token and --github-app-id exclude each other".to_owned());
            None
        }
        (Some(id), Some(key)) => {
            if jsonwebtoken::EncodingKey::from_rsa_pem(key.expose().as_bytes()).is_err() {
                let origin = given.origin("github-app-private-key");
                mistakes.push(format!("{origin}: not an RSA private key in PEM form"));
            }
            Some(Access::App {
                id,
                key,
                installation,
            })
        }
        (Some(_), None) => {
            mistakes.push("--github-app-id needs --github-app-private-key".to_owned());
            None
        }
        (None, Some(_)) => {
            mistakes.push("--github-app-private-key needs --github-app-id".to_owned());
            None
        }
        (None, None) => {
            let own = match driver {
                Some(Driver::Github) => host.env("GITHUB_TOKEN"),
                Some(Driver::Gitlab) => host.env("CI_JOB_TOKEN"),
                None => None,
            };
            let token = given.one("token").or(own).map(str::trim);
            if token.is_none() {
                mistakes.push(
                    "--token: no access token; put a personal access token into REPO_TOKEN"
                        .to_owned(),
                );
            }
            token.map(|token| Access::Token(Secret::new(token)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_of_the_web_has_the_server_s_root() {
        let host = Host::fixed([("CI_SERVER_URL", "https://example.com/git")]);
        for (text, path) in [
            ("https://example.com/git/group/project.git", "group/project"),
            ("git@example.com:git/project.git", "git/project"),
            ("ssh://git@example.com:2222/git/project.git", "git/project"),
        ] {
            let place = parse_place(text, &host, None).ok().unwrap();
            assert_eq!(place.path, path, "{text}");
            assert_eq!(place.server.as_str(), "https://example.com/git", "{text}");
        }
    }
}
