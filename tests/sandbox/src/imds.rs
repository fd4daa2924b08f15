//! x
use crate::calls::Wire;
use crate::ec2::Accounts;
use std::io;
use std::sync::Arc;
#[derive(Debug)]
pub(crate) struct HostMetadata;
impl HostMetadata {
    pub(crate) async fn start(_wire: Arc<Wire>, _a: Arc<Accounts>) -> io::Result<Self> {
        Ok(Self)
    }
    pub(crate) fn url(&self) -> String {
        String::new()
    }
    pub(crate) fn enable(&self) -> String {
        String::new()
    }
}
#[derive(Debug)]
pub(crate) struct ContainerCredentials;
impl ContainerCredentials {
    pub(crate) async fn start(_wire: Arc<Wire>, _a: Arc<Accounts>) -> io::Result<Self> {
        Ok(Self)
    }
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}
