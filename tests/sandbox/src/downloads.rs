//! The download server: the agent and the forges' runner programs.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use hyper::body::{Frame, SizeHint};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::OnceCell;

use crate::Config;
use crate::calls::Wire;
use crate::fault::Refusal;
use crate::runner_program::{self, gitlab};
use crate::server::{Answer, Request, Response, Server, Service};

/// How much of a file is sent at once.
const CHUNK: usize = 256 * 1024;

/// Where the agent lies, as on a release page with its checksums beside it.
const AGENT: &str = "/agent/runner-launch-linux-";
const CHECKSUMS: &str = "/agent/SHA256SUMS";
/// The agent's architectures; one file serves both.
const AGENT_ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// An archive of the runner program.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// `linux`, `osx` or `win`.
    pub(crate) os: &'static str,
    /// `x64` or `arm64`.
    pub(crate) architecture: &'static str,
    pub(crate) version: String,
    pub(crate) filename: String,
    pub(crate) url: String,
    pub(crate) sha256: String,
    pub(crate) size: usize,
    archive: Bytes,
}

/// A handle to the download server.
#[derive(Debug)]
pub struct Downloads {
    server: Server,
    programs: Vec<Program>,
}

impl Downloads {
    pub(crate) async fn start(wire: Arc<Wire>, config: &Config) -> io::Result<Downloads> {
        let mut programs = Vec::new();
        for version in runner_program::VERSIONS {
            let archive = Bytes::from(runner_program::archive(version)?);
            let sha256 = sha256(&archive);
            for (os, architecture, extension) in [
                ("osx", "x64", "tar.gz"),
                ("linux", "x64", "tar.gz"),
                ("linux", "arm64", "tar.gz"),
                ("win", "x64", "zip"),
                ("osx", "arm64", "tar.gz"),
            ] {
                programs.push(Program {
                    os,
                    architecture,
                    version: version.into(),
                    filename: format!("actions-runner-{os}-{architecture}-{version}.{extension}"),
                    url: String::new(),
                    sha256: sha256.clone(),
                    size: archive.len(),
                    archive: archive.clone(),
                });
            }
        }
        let files = Files {
            agent: config.agent_binary.clone(),
            checksums: OnceCell::new(),
            programs: programs.clone(),
        };
        let server = Server::start(Arc::new(files), wire).await?;
        for program in &mut programs {
            program.url = format!("{}{}", server.url(), program.path());
        }
        Ok(Downloads { server, programs })
    }

    pub(crate) fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// Where GitLab's runner program is.
    pub(crate) fn gitlab_runners(&self) -> String {
        format!("{}{}", self.server.url(), gitlab::FOLDER)
    }

    /// Where instances download GitLab's runner program.
    pub fn gitlab_env(&self) -> Vec<(String, String)> {
        let url = format!(
            "{}/latest/binaries/gitlab-runner-linux-{{arch}}",
            self.gitlab_runners()
        );
        vec![("RUNNER_LAUNCH_RUNNER_URL".into(), url)]
    }

    /// Where instances download the agent.
    pub fn env(&self) -> Vec<(String, String)> {
        let url = format!("{}{AGENT}{{arch}}", self.server.url());
        vec![("RUNNER_LAUNCH_AGENT_URL".into(), url)]
    }
}

impl Program {
    /// As GitHub's release downloads have it.
    fn path(&self) -> String {
        format!(
            "/actions/runner/releases/download/v{}/{}",
            self.version, self.filename
        )
    }
}

/// In hexadecimal.
pub(crate) fn sha256(data: &[u8]) -> String {
    hexadecimal(ring::digest::digest(&ring::digest::SHA256, data))
}

fn hexadecimal(digest: ring::digest::Digest) -> String {
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// What is served.
struct Files {
    agent: PathBuf,
    /// Made when it is first asked for: the agent is large.
    checksums: OnceCell<String>,
    programs: Vec<Program>,
}

impl Files {
    async fn checksums(&self) -> io::Result<&String> {
        let make = async || {
            let mut file = File::open(&self.agent).await?;
            let mut context = ring::digest::Context::new(&ring::digest::SHA256);
            let mut chunk = vec![0; CHUNK];
            loop {
                match file.read(&mut chunk).await? {
                    0 => break,
                    read => context.update(&chunk[..read]),
                }
            }
            let sum = hexadecimal(context.finish());
            let names = AGENT_ARCHITECTURES.map(|arch| format!("runner-launch-linux-{arch}"));
            Ok(names.map(|name| format!("{sum}  {name}\n")).concat())
        };
        self.checksums.get_or_try_init(make).await
    }

    async fn get(&self, path: &str) -> io::Result<Response> {
        let agent = path.strip_prefix(AGENT);
        if agent.is_some_and(|arch| AGENT_ARCHITECTURES.contains(&arch)) {
            let file = File::open(&self.agent).await?;
            let length = file.metadata().await?.len();
            return Ok(Response::new(Body::new(FileBody {
                file,
                left: length,
                chunk: vec![0; CHUNK],
            })));
        }
        if path == CHECKSUMS {
            return Ok(Response::new(Body::from(self.checksums().await?.clone())));
        }
        if let Some(rest) = path.strip_prefix(gitlab::FOLDER) {
            return Ok(match gitlab::file(rest) {
                Some(file) => Response::new(Body::from(file)),
                None => failure(404),
            });
        }
        // The stand-in is for Linux alone; the other systems' archives are only listed.
        let program = self.programs.iter().find(|program| program.path() == path);
        match program.filter(|program| program.os == "linux") {
            Some(program) => Ok(Response::new(Body::from(program.archive.clone()))),
            None => Ok(failure(404)),
        }
    }
}

fn failure(status: u16) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND);
    response
}

impl Service for Files {
    fn classify(&self, request: &Request) -> String {
        let path = request.path();
        let what = if request.parts.method == http::Method::HEAD {
            "probe"
        } else if path == CHECKSUMS {
            "checksums"
        } else if path.starts_with(AGENT) {
            "agent"
        } else if path.starts_with("/actions/runner/") {
            "runner"
        } else if path.starts_with(gitlab::FOLDER) {
            // Its last word: the program itself, or the list of checksums.
            match path.ends_with(gitlab::CHECKSUMS) {
                true => gitlab::CHECKSUMS,
                false => "gitlab-runner",
            }
        } else {
            path
        };
        format!("download:{what}")
    }

    fn refuse(&self, refusal: Refusal, _request: &Request) -> Response {
        let (status, retry_after) = match refusal {
            Refusal::Status(status) => (status, None),
            Refusal::Denied => (403, None),
            Refusal::Throttled => (429, Some("1")),
            Refusal::Capacity => (503, None),
        };
        let mut response = failure(status);
        if let Some(seconds) = retry_after {
            let seconds = HeaderValue::from_static(seconds);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }

    fn handle(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(async move {
            if ![http::Method::GET, http::Method::HEAD].contains(&request.parts.method) {
                return failure(405);
            }
            let mut response = match self.get(request.path()).await {
                Ok(response) => response,
                Err(_) => failure(500),
            };
            let kind = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        })
    }
}

/// A file that is read while it is sent.
#[derive(Debug)]
struct FileBody {
    file: File,
    left: u64,
    chunk: Vec<u8>,
}

impl HttpBody for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let mut buffer = ReadBuf::new(&mut this.chunk);
        ready!(Pin::new(&mut this.file).poll_read(context, &mut buffer))?;
        let read = buffer.filled();
        let length = u64::try_from(read.len()).unwrap_or(u64::MAX);
        if length == 0 {
            // Shorter than promised: the connection ends early, and the client notices.
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        let take = usize::try_from(length.min(this.left)).unwrap_or(read.len());
        this.left -= length.min(this.left);
        let data = Bytes::copy_from_slice(&read[..take]);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
