//! The HTTP plumbing under every fake: it records each call, adds latency, injects faults, and
//! otherwise lets the service answer.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::calls::{Caller, Wire, lock};
use crate::fault::{FaultKind, Refusal};

/// How long an unanswered call is left hanging.
const HANG: Duration = Duration::from_secs(120);

/// An answer.
pub(crate) type Response = http::Response<Body>;

/// An answer to come.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// The error code of an answer, put into its extensions for the record.
#[derive(Debug, Clone)]
pub(crate) struct Code(pub(crate) String);

/// The certificate that a caller has shown and the server has verified, in its request's extensions.
#[derive(Debug, Clone)]
pub(crate) struct ClientCertificate(pub(crate) CertificateDer<'static>);

/// A request whose body has come in whole.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Method, URI and headers.
    pub(crate) parts: Parts,
    /// The body.
    pub(crate) body: Bytes,
    gone: watch::Receiver<bool>,
}

impl Request {
    /// The URI's path.
    pub(crate) fn path(&self) -> &str {
        self.parts.uri.path()
    }

    /// The URI's query, or nothing.
    pub(crate) fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }

    /// The value of a header, when it is there and is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// Ends when the caller has closed the connection (or got its answer).
    pub(crate) async fn hung_up(&self) {
        let mut gone = self.gone.clone();
        // The sender sends before it goes, so an error means gone, too.
        let _ = gone.wait_for(|gone| *gone).await;
    }
}

/// A fake service (or several behind one address).
pub(crate) trait Service: Send + Sync + 'static {
    /// The call's name, `service:what`, as recorded and as faults name it.
    fn classify(&self, request: &Request) -> String;

    /// The service's own error answer for an injected fault.
    fn refuse(&self, refusal: Refusal, request: &Request) -> Response;

    /// Does the work. The work goes on to its end even when the caller hangs up.
    fn handle(self: Arc<Self>, request: Request) -> Answer;

    /// Whether the service is reached without the latency of a network.
    fn is_local(&self) -> bool {
        false
    }

    /// Who is at the other end of a connection.
    fn caller(&self, peer: SocketAddr) -> Caller {
        crate::instance::caller(peer)
    }
}

/// A listening server; dropping it closes the port and every connection.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    scheme: &'static str,
    task: JoinHandle<()>,
}

impl Server {
    /// `http://127.0.0.1:PORT`, or with `https`.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Serves on a free loopback port.
    pub(crate) async fn start(service: Arc<dyn Service>, wire: Arc<Wire>) -> io::Result<Server> {
        Self::listen(service, wire, None).await
    }

    /// The same, over TLS.
    pub(crate) async fn start_tls(
        service: Arc<dyn Service>,
        wire: Arc<Wire>,
        config: Arc<ServerConfig>,
    ) -> io::Result<Server> {
        Self::listen(service, wire, Some(TlsAcceptor::from(config))).await
    }

    async fn listen(
        service: Arc<dyn Service>,
        wire: Arc<Wire>,
        tls: Option<TlsAcceptor>,
    ) -> io::Result<Server> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let task = tokio::spawn(accept(listener, service, wire, tls));
        Ok(Server {
            address,
            scheme,
            task,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    service: Arc<dyn Service>,
    wire: Arc<Wire>,
    tls: Option<TlsAcceptor>,
) {
    // Dropped with this task, and with it every connection.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // An error here is the caller's (gone before it was accepted).
                if let Ok((stream, peer)) = accepted {
                    connections.spawn(connection(
                        stream,
                        peer,
                        service.clone(),
                        wire.clone(),
                        tls.clone(),
                    ));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    service: Arc<dyn Service>,
    wire: Arc<Wire>,
    tls: Option<TlsAcceptor>,
) {
    // The answers are small: waiting to fill a packet would only add delay.
    let _ = stream.set_nodelay(true);
    let caller = {
        let service = service.clone();
        tokio::task::spawn_blocking(move || service.caller(peer))
            .await
            .unwrap_or(Caller::Host)
    };
    let Some(tls) = tls else {
        return serve(stream, caller, None, service, wire).await;
    };
    // A caller that doesn't trust the server, or isn't trusted, ends here.
    let Ok(stream) = tls.accept(stream).await else {
        return;
    };
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(|leaf| ClientCertificate(leaf.clone().into_owned()));
    serve(stream, caller, certificate, service, wire).await;
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    caller: Caller,
    certificate: Option<ClientCertificate>,
    service: Arc<dyn Service>,
    wire: Arc<Wire>,
) {
    let serve = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        if let Some(certificate) = &certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        call(request, caller.clone(), service.clone(), wire.clone())
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new());
    // An error is a connection that ended without an answer, on purpose or by the caller.
    let _ = builder.serve_connection(TokioIo::new(stream), serve).await;
}

/// Ends a connection without an answer.
#[derive(Debug)]
struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is closed without an answer")
    }
}

impl std::error::Error for Cut {}

/// Tells the handler, and the record, that the caller is gone.
struct OnDrop {
    gone: watch::Sender<bool>,
    wire: Arc<Wire>,
    index: usize,
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.gone.send_replace(true);
        self.wire.end(self.index, None, None);
    }
}

async fn call(
    request: hyper::Request<Incoming>,
    caller: Caller,
    service: Arc<dyn Service>,
    wire: Arc<Wire>,
) -> Result<Response, Cut> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    let (gone_tx, gone) = watch::channel(false);
    let request = Request { parts, body, gone };
    let name = service.classify(&request);
    let verdict = lock(&wire.rules).judge(&name, &caller);
    let index = wire.begin(
        &name,
        caller,
        verdict.fault.as_ref().map(|fault| fault.name()),
    );
    let on_drop = OnDrop {
        gone: gone_tx,
        wire: wire.clone(),
        index,
    };

    // In a task of its own: a service doesn't stop its work because the caller hung up.
    let latency = if service.is_local() {
        Duration::ZERO
    } else {
        wire.latency()
    };
    let work = tokio::spawn(async move {
        let mut verdict = verdict;
        pause(latency / 2).await;
        for held in &mut verdict.before {
            held.wait().await;
        }
        let refusal = match verdict.fault {
            Some(FaultKind::CutBefore) => return None,
            Some(FaultKind::TimeoutBefore) => {
                tokio::time::sleep(HANG).await;
                return None;
            }
            Some(FaultKind::Status(status)) => Some(Refusal::Status(status)),
            Some(FaultKind::Denied) => Some(Refusal::Denied),
            Some(FaultKind::Throttled) => Some(Refusal::Throttled),
            Some(FaultKind::Capacity) => Some(Refusal::Capacity),
            _ => None,
        };
        let response = match refusal {
            Some(refusal) => service.refuse(refusal, &request),
            None => service.handle(request).await,
        };
        match verdict.fault {
            Some(FaultKind::CutAfter) => return None,
            Some(FaultKind::TimeoutAfter) => {
                tokio::time::sleep(HANG).await;
                return None;
            }
            Some(FaultKind::Slow(delay)) => tokio::time::sleep(delay).await,
            _ => {}
        }
        for held in &mut verdict.after {
            held.wait().await;
        }
        pause(latency - latency / 2).await;
        Some(response)
    });
    // A handler that panicked is a connection that broke.
    let response = work.await.ok().flatten().ok_or(Cut)?;
    let code = response
        .extensions()
        .get::<Code>()
        .map(|code| code.0.clone());
    wire.end(index, Some(response.status().as_u16()), code);
    drop(on_drop);
    Ok(response)
}

/// Sleeps, unless there is nothing to sleep.
async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
