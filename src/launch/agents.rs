//! Where an instance finds the agent, which is this very program, and how it knows that it got it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use http::{Method, StatusCode};
use ring::digest;
use tokio::task::JoinHandle;
use url::Url;

use crate::agent::hex;
use crate::bootstrap::AgentFile;
use crate::cloud::Arch;
use crate::error::{Error, Result};
use crate::host::{Host, names};
use crate::http::{Http, Policy, Request, Verdict, redacted};

/// The file with the checksums of a release.
const SUMS: &str = "SHA256SUMS";

/// This program's own file, read once.
pub(super) struct Own {
    arch: Arch,
    file: PathBuf,
    sha256: String,
    /// The checksums that lie beside the file, where they do.
    beside: Option<String>,
}

impl Own {
    /// Reads the running program's file.
    pub(super) async fn read() -> Result<Self> {
        let read = || -> std::io::Result<Own> {
            // The link works even when the file was replaced meanwhile; its folder may not. An empty
            // root has no /proc: then the name by which we were called must do. Were it wrong,
            // instances would refuse the agent, not run another.
            let called = PathBuf::from(std::env::args_os().next().unwrap_or_default());
            let link = Path::new("/proc/self/exe");
            let mut own = match std::fs::File::open(link) {
                Err(_) if called.is_absolute() => std::fs::File::open(&called)?,
                opened => opened?,
            };
            let mut hash = digest::Context::new(&digest::SHA256);
            let mut chunk = vec![0; 64 * 1024];
            loop {
                match own.read(&mut chunk)? {
                    0 => break,
                    count => hash.update(&chunk[..count]),
                }
            }
            let file = std::fs::read_link(link).unwrap_or(called);
            let beside = file.parent().unwrap_or(Path::new("/")).join(SUMS);
            Ok(Own {
                arch: Arch::own(),
                sha256: hex(hash.finish().as_ref()),
                beside: std::fs::read_to_string(beside).ok(),
                file,
            })
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| Error::other("reading this program's own file").caused_by(error))?
            .map_err(|error| Error::other("reading this program's own file").caused_by(error))
    }

    /// The agents for these architectures: our own checksum for our own, the release's for others.
    pub(super) async fn agents(
        &self,
        wanted: &[Arch],
        host: &Host,
        http: &Http,
    ) -> Result<BTreeMap<Arch, AgentFile>> {
        let mut agents = BTreeMap::new();
        for &arch in wanted {
            let url = address(host, &self.file, arch)?;
            let sha256 = if arch == self.arch {
                self.sha256.clone()
            } else {
                let known = self
                    .beside
                    .as_deref()
                    .and_then(|sums| checksum(sums, &file_name(arch)));
                match known {
                    Some(sum) => sum,
                    None => published(&url, arch, http).await?,
                }
            };
            agents.insert(
                arch,
                AgentFile {
                    url: url.to_string(),
                    sha256,
                },
            );
        }
        Ok(agents)
    }
}

/// A question to the server that instances download from, which nobody waits for.
pub(super) struct Probe(Option<(Url, JoinHandle<Option<StatusCode>>)>);

impl Own {
    /// Asks whether the agent is where instances will look for it.
    pub(super) fn probe(&self, host: &Host, http: &Http) -> Probe {
        let policy = Policy {
            tries: 1,
            ..Policy::IDEMPOTENT
        };
        let Ok(url) = address(host, &self.file, self.arch) else {
            return Probe(None);
        };
        let (asked, http) = (url.clone(), http.clone());
        let question = async move {
            let build = || Ok(Request::new(Method::HEAD, asked.clone()));
            let what = redacted(&asked);
            let reply = http.send(&what, policy, build, Verdict::by_status).await;
            reply.ok().map(|reply| reply.status)
        };
        Probe(Some((url, tokio::spawn(question))))
    }
}

impl Probe {
    /// An error if the server has said by now that there is no such file: then an instance would
    /// only find out later. A server that hasn't answered, or that only instances can reach, is no
    /// mistake.
    pub(super) async fn check(&mut self) -> Result<()> {
        let Some((url, question)) = self.0.take_if(|(_, question)| question.is_finished()) else {
            return Ok(());
        };
        match question.await {
            Ok(Some(status @ (StatusCode::NOT_FOUND | StatusCode::GONE))) => Err(Error::usage(
                format!(
                    "instances can't download this program: {} answers {status}",
                    redacted(&url)
                ),
            )
            .hint(format!(
                "put this program, and {SUMS}, where instances can get them without a password, \
                     and the address into {}",
                names::AGENT_URL
            ))),
            _ => Ok(()),
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some((_, question)) = &self.0 {
            question.abort();
        }
    }
}

fn file_name(arch: Arch) -> String {
    format!("runner-launch-linux-{}", arch.uname())
}

/// The address that was given, else this version's release: of the Action that brought our file,
/// or ours. An Action that merely calls us has no release of ours.
fn address(host: &Host, file: &Path, arch: Arch) -> Result<Url> {
    let text = match host.env(names::AGENT_URL) {
        Some(url) => url.replace("{arch}", arch.uname()),
        None => {
            let home = match action_repository(host, file) {
                Some(repository) => format!("https://github.com/{repository}"),
                None => env!("CARGO_PKG_REPOSITORY").to_owned(),
            };
            format!(
                "{home}/releases/download/v{}/{}",
                env!("CARGO_PKG_VERSION"),
                file_name(arch)
            )
        }
    };
    Url::parse(&text).map_err(|error| {
        Error::usage(format!("{}: `{text}` is no address", names::AGENT_URL)).caused_by(error)
    })
}

/// The repository, as `owner/name`, of the Action whose file we are. GitHub's runner leaves
/// `GITHUB_ACTION_REPOSITORY` empty in the steps of composite Actions
/// (<https://github.com/actions/runner/issues/2473>), so that ours passes it on in a variable of its
/// own; and where it unpacked the Action tells, too: `…/_actions/OWNER/NAME/REF/`.
fn action_repository(host: &Host, file: &Path) -> Option<String> {
    let path = host.env("GITHUB_ACTION_PATH")?;
    // Our own path has no links in it any more.
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    if !file.starts_with(real) {
        return None;
    }
    let named = host
        .env("GITHUB_ACTION_REPOSITORY")
        .or(host.env(names::ACTION_REPOSITORY));
    if let Some(repository) = named {
        return Some(repository.to_owned());
    }
    let mut parts = file.iter().map(|part| part.to_str());
    parts.find(|part| *part == Some("_actions"))?;
    Some(format!("{}/{}", parts.next()??, parts.next()??))
}

/// The checksum beside the download, for an architecture of which nothing is known here.
async fn published(url: &Url, arch: Arch, http: &Http) -> Result<String> {
    let sums = url
        .join(SUMS)
        .map_err(|error| Error::other("building an address").caused_by(error))?;
    let what = redacted(&sums);
    let build = || Ok(Request::new(Method::GET, sums.clone()));
    let reply = http
        .send(&what, Policy::IDEMPOTENT, build, Verdict::by_status)
        .await?;
    let name = file_name(arch);
    checksum(&reply.text(), &name)
        .filter(|_| reply.status.is_success())
        .ok_or_else(|| {
            Error::other(format!(
                "{what} ({}) has no checksum of {name}",
                reply.status
            ))
            .hint(format!(
                "put {SUMS} of this version beside this program, or choose an instance type for {}",
                Arch::own().uname()
            ))
        })
}

/// Finds a file's line in the output of `sha256sum`.
fn checksum(sums: &str, name: &str) -> Option<String> {
    sums.lines().find_map(|line| {
        let (sum, file) = line.split_once(char::is_whitespace)?;
        let is_it = file.trim_start().trim_start_matches('*') == name;
        let is_sum = sum.len() == 64 && sum.chars().all(|c| c.is_ascii_hexdigit());
        (is_it && is_sum).then(|| sum.to_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_found_by_its_file() {
        let sum = "A".repeat(64);
        let sums = format!(
            "{}  other\n{sum} *runner-launch-linux-aarch64\nshort  x\n",
            "b".repeat(64)
        );
        assert_eq!(
            checksum(&sums, "runner-launch-linux-aarch64"),
            Some("a".repeat(64))
        );
        assert_eq!(checksum(&sums, "runner-launch-linux-x86_64"), None);
        assert_eq!(checksum(&sums, "x"), None);
    }

    #[test]
    fn the_agent_is_this_version_of_this_action() {
        let file = Path::new("/actions/org/fork/v1/dist/runner-launch-linux-x86_64");
        let none = Host::fixed::<&str, &str>([]);
        let url = address(&none, file, Arch::Aarch64).unwrap();
        assert!(url.path().ends_with(&format!(
            "/releases/download/v{}/runner-launch-linux-aarch64",
            env!("CARGO_PKG_VERSION")
        )));
        let action = Host::fixed([
            ("GITHUB_ACTION_REPOSITORY", "org/fork"),
            ("GITHUB_ACTION_PATH", "/actions/org/fork/v1"),
        ]);
        let url = address(&action, file, Arch::X86_64).unwrap();
        assert!(
            url.as_str()
                .starts_with("https://github.com/org/fork/releases/")
        );
        let composite = Host::fixed([
            ("GITHUB_ACTION_REPOSITORY", ""),
            (names::ACTION_REPOSITORY, "org/passed"),
            ("GITHUB_ACTION_PATH", "/actions/org/fork/v1"),
        ]);
        let url = address(&composite, file, Arch::X86_64).unwrap();
        assert!(url.as_str().contains("org/passed/"), "{url}");
        let path = "/home/runner/work/_actions/org/unpacked/v1";
        let unpacked = Host::fixed([("GITHUB_ACTION_PATH", path)]);
        let inside = Path::new(path).join("dist/runner-launch-linux-x86_64");
        let url = address(&unpacked, &inside, Arch::X86_64).unwrap();
        assert!(url.as_str().contains("github.com/org/unpacked/"), "{url}");
        let elsewhere = Path::new("/usr/local/bin/runner-launch");
        let url = address(&action, elsewhere, Arch::X86_64).unwrap();
        assert!(!url.as_str().contains("org/fork"), "{url}");
        let given = Host::fixed([(names::AGENT_URL, "https://mirror.example/{arch}/agent")]);
        let url = address(&given, file, Arch::X86_64).unwrap();
        assert_eq!(url.as_str(), "https://mirror.example/x86_64/agent");
    }
}
