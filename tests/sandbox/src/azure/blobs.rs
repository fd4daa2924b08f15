//! The storage that boot diagnostics are read from, by addresses that are secrets.
//! <https://learn.microsoft.com/en-us/azure/virtual-machines/boot-diagnostics>,
//! <https://learn.microsoft.com/en-us/rest/api/storageservices/create-service-sas>

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};

use super::World;
use super::error;
use crate::calls::{Wire, lock};
use crate::clock;
use crate::fault::Refusal;
use crate::server::{Answer, Code, Request, Response, Service};
use crate::sigv4::hmac;

/// How long an address lasts.
const LIFETIME: SignedDuration = SignedDuration::from_mins(120);

/// Makes addresses and checks them.
#[derive(Debug)]
pub(super) struct Blobs {
    wire: Arc<Wire>,
    base: OnceLock<String>,
    key: Vec<u8>,
}

impl Blobs {
    pub(super) fn new(wire: Arc<Wire>) -> Self {
        Blobs {
            wire,
            base: OnceLock::new(),
            key: clock::random_bytes(32),
        }
    }

    /// Tells where the storage is; once.
    pub(super) fn are_at(&self, url: String) {
        let _ = self.base.set(url);
    }

    fn sign(&self, path: &str, expires: &str) -> String {
        BASE64_STANDARD.encode(hmac(&self.key, format!("r\n{expires}\n{path}").as_bytes()))
    }

    /// The address of a machine's `serialconsole.log`, say.
    pub(super) fn address(&self, vm_id: &str, name: &str, what: &str) -> String {
        let path = format!("/bootdiagnostics-{vm_id}/{name}.{vm_id}.{what}");
        let expires = clock::seconds(clock::now() + LIFETIME);
        let signature = self.sign(&path, &expires);
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("sv", "2024-08-04")
            .append_pair("sr", "b")
            .append_pair("sig", &signature)
            .append_pair("se", &expires)
            .append_pair("sp", "r")
            .finish();
        self.wire.secret(&signature);
        if let Some((_, encoded)) = query.split_once("sig=") {
            self.wire
                .secret(encoded.split('&').next().unwrap_or_default());
        }
        let base = self.base.get().map(String::as_str).unwrap_or_default();
        format!("{base}{path}?{query}")
    }
}

/// The service behind such addresses.
#[derive(Debug)]
pub(super) struct BlobService {
    world: Arc<World>,
}

impl BlobService {
    pub(super) fn new(world: Arc<World>) -> Self {
        BlobService { world }
    }

    fn answer(&self, request: &Request) -> Response {
        let query: BTreeMap<String, String> =
            url::form_urlencoded::parse(request.query().as_bytes())
                .into_owned()
                .collect();
        let part = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        let expires: Option<Timestamp> = part("se").parse().ok();
        let signed = self.world.blobs.sign(request.path(), part("se")) == part("sig");
        // A token beside the signature is taken for what should let the caller in.
        let token = request.header("authorization").is_some();
        if !signed || token || expires.is_none_or(|expires| expires <= clock::now()) {
            return refusal(
                403,
                "AuthenticationFailed",
                "Server failed to authenticate the request. Make sure the value of Authorization \
                 header is formed correctly including the signature.",
            );
        }
        let machine = lock(&self.world.state).machines.iter().find_map(|machine| {
            let inside = request.path().contains(&machine.vm_id);
            inside.then(|| machine.vm.clone()).flatten()
        });
        let Some(machine) = machine.filter(|_| request.path().ends_with("serialconsole.log"))
        else {
            return refusal(404, "BlobNotFound", "The specified blob does not exist.");
        };
        let mut response = Response::new(machine.console_text().into());
        error::set(&mut response, "content-type", "application/octet-stream");
        response
    }
}

impl Service for BlobService {
    fn classify(&self, request: &Request) -> String {
        let what = match request.path().ends_with("serialconsole.log") {
            true => "serialconsole",
            false => "blob",
        };
        format!("blob:{} {what}", request.parts.method)
    }

    fn refuse(&self, injected: Refusal, _: &Request) -> Response {
        match injected {
            Refusal::Denied => refusal(
                403,
                "AuthorizationFailure",
                "This request is not authorized to perform this operation.",
            ),
            Refusal::Throttled | Refusal::Capacity => {
                refusal(503, "ServerBusy", "The server is busy.")
            }
            Refusal::Status(status) => refusal(status, "InternalError", "The request failed."),
        }
    }

    fn handle(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(async move { self.answer(&request) })
    }
}

/// Storage answers in XML.
/// <https://learn.microsoft.com/en-us/rest/api/storageservices/status-and-error-codes2>
fn refusal(status: u16, code: &str, message: &str) -> Response {
    let body = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code>\
         <Message>{message}</Message></Error>"
    );
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    error::set(&mut response, "content-type", "application/xml");
    error::set(&mut response, "x-ms-error-code", code);
    response.extensions_mut().insert(Code(code.to_owned()));
    response
}
