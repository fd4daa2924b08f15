//! A server for tests: answers each request by a function and remembers them all.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Method and path, without the query.
    pub(super) line: String,
    query: String,
    /// The first line and the headers.
    pub(super) head: String,
    pub(super) body: String,
}

impl Seen {
    /// A header's value.
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
}

/// What is answered by a server that is the cloud `C`, whose file adds what only that cloud says.
#[derive(Debug)]
pub(super) struct Answer<C> {
    /// `None` cuts the connection.
    status: Option<u16>,
    headers: Vec<(&'static str, String)>,
    body: String,
    after: Duration,
    cloud: PhantomData<fn() -> C>,
}

// Derived, it would ask for clouds that can be cloned.
impl<C> Clone for Answer<C> {
    fn clone(&self) -> Self {
        Self {
            status: self.status,
            headers: self.headers.clone(),
            body: self.body.clone(),
            after: self.after,
            cloud: PhantomData,
        }
    }
}

impl<C> Answer<C> {
    pub(super) fn new(status: u16, body: impl Into<String>) -> Self {
        Self {
            status: Some(status),
            headers: Vec::new(),
            body: body.into(),
            after: Duration::ZERO,
            cloud: PhantomData,
        }
    }

    pub(super) fn json(body: &Value) -> Self {
        Self::new(200, body.to_string())
    }

    /// The connection is cut.
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

    /// It takes this long.
    pub(super) fn after(mut self, pause: Duration) -> Self {
        self.after = pause;
        self
    }
}

/// How a cloud's requests are told apart.
pub(super) trait Kinds: 'static {
    /// The kind of a request: those of one kind are counted together.
    fn kind(seen: &Seen) -> String {
        seen.line.clone()
    }
}

/// A server that is the cloud `C`; it ends with the test's runtime.
pub(super) struct Server<C> {
    /// Its address, without a slash at the end.
    pub(super) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    cloud: PhantomData<fn() -> C>,
}

impl<C: Kinds> Server<C> {
    /// Starts one whose answers `script` gives, from the request and the number of requests of
    /// the same kind before it.
    pub(super) async fn start<A: Into<Answer<C>>>(
        script: impl Fn(&Seen, usize) -> A + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let log = Arc::clone(&seen);
        let answer = Arc::new(move |request: Seen| {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            let kind = C::kind(&request);
            let before = log.iter().filter(|seen| C::kind(seen) == kind).count();
            log.push(request.clone());
            script(&request, before).into()
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = Arc::clone(&answer);
                tokio::spawn(serve(stream, move |request| answer(request)));
            }
        });
        Self {
            url,
            seen,
            cloud: PhantomData,
        }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The requests of one kind.
    pub(super) fn all(&self, kind: &str) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|seen| C::kind(seen) == kind);
        seen
    }

    /// The kinds of all requests, in order.
    pub(super) fn order(&self) -> Vec<String> {
        self.seen().iter().map(C::kind).collect()
    }
}

async fn serve<C>(mut stream: TcpStream, answer: impl Fn(Seen) -> Answer<C>) {
    let mut buffer = Vec::new();
    while let Some(request) = read(&mut stream, &mut buffer).await {
        let answer = answer(request);
        let Some(status) = answer.status else {
            return;
        };
        tokio::time::sleep(answer.after).await;
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
