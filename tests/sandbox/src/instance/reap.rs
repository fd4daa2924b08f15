//! x
use std::path::Path;
pub(crate) fn kill_all(_p: &Path) {}
pub(crate) fn adopt_orphans(_p: &Path) {}
