//! A server for tests: answers each request by a function and remembers them all.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::host::Host;
use crate::http::Http;

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Method and path, without the query.
    pub(super) line: String,
    query: String,
    head: String,
    pub(super) body: String,
}

impl Seen {
    /// A header's value; its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }

    /// A parameter of the query or of a form.
    pub(super) fn param(&self, name: &str) -> Option<String> {
        [&self.query, &self.body].into_iter().find_map(|text| {
            url::form_urlencoded::parse(text.as_bytes())
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.into_owned())
        })
    }

    /// The body as JSON; `null` where it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The server's own address and a path.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.header("host").unwrap_or_default())
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// `None` cuts the connection.
    status: Option<u16>,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Answer {
    pub(super) fn new(status: u16, body: impl Into<String>) -> Self {
        Self {
            status: Some(status),
            headers: Vec::new(),
            body: body.into(),
        }
    }

    pub(super) fn json(body: &Value) -> Self {
        Self::new(200, body.to_string())
    }

    /// Resource Manager's error document.
    pub(super) fn refusal(status: u16, code: &str, message: &str) -> Self {
        let body = json!({ "error": { "code": code, "message": message } });
        Self::new(status, body.to_string())
    }

    pub(super) fn cut() -> Self {
        Self {
            status: None,
            ..Self::new(0, "")
        }
    }

    pub(super) fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Entra's answer to a good request for a token.
pub(super) fn token(text: &str) -> Answer {
    Answer::json(&json!({ "token_type": "Bearer", "expires_in": 3599, "access_token": text }))
}

/// The path at which [`Server::env`] has tokens made.
pub(super) const TOKEN: &str = "POST /tenant/oauth2/v2.0/token";

/// The subscription of [`Server::env`].
pub(super) const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000001";

/// The server; it ends with the test's runtime.
pub(super) struct Server {
    pub(super) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Starts one whose answers `script` gives, from the request and the number of requests of
    /// the same line before it.
    pub(super) async fn start(
        script: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let log = Arc::clone(&seen);
        let script = Arc::new(script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&log), Arc::clone(&script)));
            }
        });
        Self { url, seen }
    }

    /// An environment in which this server is Entra, Resource Manager and the metadata service.
    pub(super) fn host(&self, more: &[(&str, &str)]) -> (Host, Http) {
        let places = [
            ("AZURE_AUTHORITY_HOST", self.url.as_str()),
            ("AZURE_RESOURCE_MANAGER_ENDPOINT", self.url.as_str()),
            ("AZURE_POD_IDENTITY_AUTHORITY_HOST", self.url.as_str()),
            ("AZURE_SUBSCRIPTION_ID", SUBSCRIPTION),
        ];
        let host = Host::fixed(places.into_iter().chain(more.iter().copied()));
        let http = Http::new(&host).unwrap();
        (host, http)
    }

    /// The same with a client secret.
    pub(super) fn signed_in(&self) -> (Host, Http) {
        self.host(&[
            ("AZURE_TENANT_ID", "tenant"),
            ("AZURE_CLIENT_ID", "app"),
            ("AZURE_CLIENT_SECRET", "s3cr3t&+"),
        ])
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The requests of one line.
    pub(super) fn all(&self, line: &str) -> Vec<Seen> {
        self.seen()
            .into_iter()
            .filter(|seen| seen.line == line)
            .collect()
    }

    /// The lines of all requests, in order.
    pub(super) fn order(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    log: Arc<Mutex<Vec<Seen>>>,
    script: Arc<impl Fn(&Seen, usize) -> Answer>,
) {
    let mut buffer = Vec::new();
    while let Some(request) = read(&mut stream, &mut buffer).await {
        let answer = {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            let before = log.iter().filter(|seen| seen.line == request.line).count();
            log.push(request.clone());
            script(&request, before)
        };
        let Some(status) = answer.status else {
            return;
        };
        let mut head = format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n",
            answer.body.len()
        );
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let text = format!("{head}\r\n{}", answer.body);
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    loop {
        let text = String::from_utf8_lossy(buffer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let first = head.lines().next()?.trim_end_matches(" HTTP/1.1");
            let (line, query) = first.split_once('?').unwrap_or((first, ""));
            let mut seen = Seen {
                line: line.to_owned(),
                query: query.to_owned(),
                head: head.to_owned(),
                body: String::new(),
            };
            let length: usize = match seen.header("content-length") {
                Some(length) => length.parse().unwrap(),
                None => 0,
            };
            if body.len() >= length {
                seen.body = body[..length].to_owned();
                buffer.clear();
                return Some(seen);
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
