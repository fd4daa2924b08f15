//! The startup script of a Compute Engine instance, run as Google's guest agent runs it.

use super::{Cloud, Machine};

impl Machine {
    /// Runs the startup script.
    pub(super) async fn run_startup_script(self) {
        let Cloud::Google { facts, .. } = &self.cloud else {
            return;
        };
        let script = facts.borrow().attributes.get("startup-script").cloned();
        if script.is_none() {
            self.console
                .say("google_metadata_script_runner: No startup scripts to run.");
        }
    }
}
