//! A server for tests: answers each request by a function and remembers them all.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::host::Host;
use crate::http::Http;

/// The key of the account in [`key_file`], for tests alone.
pub(super) const KEY: &str = include_str!("../../../tests/data/debug-key.pem");

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Method and path, without the query.
    pub(super) line: String,
    /// The query's parameters.
    query: Vec<(String, String)>,
    /// The headers, their names in lower case.
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// A parameter of the query.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// A field of a form.
    pub(super) fn form(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.body.as_bytes())
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.into_owned())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = pairs.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

/// What is answered; a status of 0 cuts the connection.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    after: Duration,
}

impl Answer {
    pub(super) fn text(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            after: Duration::ZERO,
        }
    }

    pub(super) fn json(body: &Value) -> Self {
        Self::text(200, body.to_string())
    }

    /// What a metadata server says.
    pub(super) fn metadata(text: &str, etag: &str) -> Self {
        Self::text(200, text)
            .header("metadata-flavor", "Google")
            .header("etag", etag)
    }

    /// A metadata server has nothing there.
    pub(super) fn no_metadata() -> Self {
        Self::text(404, "").header("metadata-flavor", "Google")
    }

    /// The connection is cut.
    pub(super) fn cut() -> Self {
        Self::text(0, "")
    }

    /// Compute Engine's error document.
    pub(super) fn refusal(status: u16, reason: &str, message: &str) -> Self {
        let error = json!({
            "code": status,
            "message": message,
            "errors": [{ "message": message, "domain": "global", "reason": reason }],
        });
        Self::text(status, json!({ "error": error }).to_string())
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// It takes this long.
    pub(super) fn after(mut self, pause: Duration) -> Self {
        self.after = pause;
        self
    }
}

/// The server; it ends with the test's runtime.
pub(super) struct Server {
    /// Its address, without a slash at the end.
    pub(super) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Starts one whose answers `script` gives, from the request and the number of requests of
    /// the same method and path before it.
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

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The requests of one method and path.
    pub(super) fn all(&self, line: &str) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|seen| seen.line == line);
        seen
    }

    /// Methods and paths of all requests, in order.
    pub(super) fn order(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }

    /// A machine for which this server is Compute Engine and the metadata server, and nothing else
    /// is anywhere.
    pub(super) fn host(&self, more: &[(&str, &str)]) -> Host {
        let compute = format!("{}/compute/v1/", self.url);
        let metadata = self.url.trim_start_matches("http://").to_owned();
        let fixed = [
            ("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", compute.as_str()),
            ("GCE_METADATA_HOST", metadata.as_str()),
            ("HOME", "/no/such/home"),
        ];
        Host::fixed(fixed.into_iter().chain(more.iter().copied()))
    }

    /// The same with a client for it.
    pub(super) fn machine(&self, more: &[(&str, &str)]) -> (Host, Http) {
        let host = self.host(more);
        let http = Http::new(&host).unwrap();
        (host, http)
    }

    /// A service account's key whose tokens are made at this server.
    pub(super) fn key_file(&self) -> String {
        json!({
            "type": "service_account",
            "project_id": "proj",
            "private_key_id": "kid1",
            "private_key": KEY,
            "client_email": "ci@proj.iam.gserviceaccount.com",
            "token_uri": format!("{}/token", self.url),
            "universe_domain": "googleapis.com",
        })
        .to_string()
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
        if answer.status == 0 {
            return;
        }
        tokio::time::sleep(answer.after).await;
        let mut text = format!(
            "HTTP/1.1 {} X\r\ncontent-length: {}\r\n",
            answer.status,
            answer.body.len()
        );
        for (name, value) in &answer.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.push_str(&answer.body);
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    loop {
        let text = String::from_utf8_lossy(buffer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut lines = head.lines();
            let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
            let headers: Vec<(String, String)> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let length = find(&headers, "content-length").map_or(0, |text| text.parse().unwrap());
            if body.len() >= length {
                let body = body[..length].to_owned();
                buffer.clear();
                let (line, query) = match line.split_once('?') {
                    Some((line, query)) => (
                        line.to_owned(),
                        url::form_urlencoded::parse(query.as_bytes())
                            .into_owned()
                            .collect(),
                    ),
                    None => (line, Vec::new()),
                };
                return Some(Seen {
                    line,
                    query,
                    headers,
                    body,
                });
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
