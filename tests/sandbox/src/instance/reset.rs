//! A machine that crashes and comes back.

use std::time::Duration;

use super::{Machine, reap};
use crate::calls::lock;

/// How long a script of the boot may take.
const BOOT_LIMIT: Duration = Duration::from_secs(60);

impl Machine {
    /// As after a kernel panic, or a restart on other hardware: everything ends at once, nothing
    /// cleans up, and the machine boots with what is on its disk, of which `/run` is no part.
    /// cloud-init runs its per-boot scripts then, and no user data, which is for the first boot
    /// only; a startup script is for every boot.
    pub(crate) async fn reset(&self) {
        lock(&self.units).crash();
        let machine = self.clone();
        let kill = move || reap::kill_members(&machine.sandbox, &machine.id);
        // Only a runtime that is going away could fail this.
        let _ = tokio::task::spawn_blocking(kill).await;
        self.console.say("kernel: panic; restarting");
        let run = self.root().join("run");
        if std::fs::remove_dir_all(&run).is_ok() {
            // It was there, so there is a place for it.
            let _ = std::fs::create_dir(&run);
        }
        self.begin_startup_script();
        let folder = self.root().join("var/lib/cloud/scripts/per-boot");
        let mut scripts: Vec<_> = std::fs::read_dir(folder)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        scripts.sort_unstable();
        for script in scripts {
            self.console
                .say(&format!("cloud-init: running {}", script.display()));
            let words = [script.display().to_string()];
            self.run_to_end(&words, &[], BOOT_LIMIT).await;
        }
    }
}
