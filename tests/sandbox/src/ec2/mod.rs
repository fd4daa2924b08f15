//! x
use crate::Config;
use crate::calls::Wire;
use std::io;
use std::path::Path;
use std::sync::Arc;
/// x
#[derive(Debug, Clone)]
pub struct Ec2;
/// x
#[derive(Debug)]
pub(crate) struct Accounts;
impl Ec2 {
    pub(crate) async fn start(_wire: Arc<Wire>, _c: &Config, _p: &Path) -> io::Result<Self> {
        Ok(Self)
    }
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        Vec::new()
    }
    pub(crate) fn accounts(&self) -> Arc<Accounts> {
        Arc::new(Accounts)
    }
    pub(crate) fn leaks(&self) -> Vec<String> {
        Vec::new()
    }
    pub(crate) async fn stop_all(&self) {}
}
