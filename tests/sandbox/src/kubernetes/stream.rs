//! Answers whose bodies come bit by bit.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::mpsc;

/// The connection is to break off.
#[derive(Debug)]
pub(super) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stream breaks off")
    }
}

impl std::error::Error for Broken {}

/// Where a body's pieces go.
pub(super) type Pieces = mpsc::Sender<Result<Bytes, Broken>>;

struct Stream(mpsc::Receiver<Result<Bytes, Broken>>);

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.0
            .poll_recv(context)
            .map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// A body, and where its pieces go.
pub(super) fn body() -> (Pieces, Body) {
    let (pieces, receiver) = mpsc::channel(64);
    (pieces, Body::new(Stream(receiver)))
}
