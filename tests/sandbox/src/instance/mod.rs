//! x
pub(crate) mod reap;
use crate::calls::Caller;
use std::net::SocketAddr;
/// x
#[derive(Debug)]
pub struct Process;
pub(crate) fn caller(_peer: SocketAddr) -> Caller {
    Caller::Host
}
