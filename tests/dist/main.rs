//! What a static binary promises: small, without a loader, and at work in a root that holds nothing
//! but itself. `tests/dist/run` says of which binaries.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that can't go on has failed, and tells what it measured"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "the folder to check comes from the environment"
)]

#[path = "../it/tls.rs"]
mod tls;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sandbox::{Config, Sandbox};
use tls::with_tls;

/// Megabytes as people count downloads.
const MB: f64 = 1e6;
/// What we aim at, and what is never exceeded.
const AIM: f64 = 8.0;
const CEILING: f64 = 12.0;

/// A binary to check.
struct Binary {
    arch: &'static str,
    file: PathBuf,
}

fn binaries() -> [Binary; 2] {
    let folder = PathBuf::from(std::env::var("DIST").expect("run this by tests/dist/run"));
    ["x86_64", "aarch64"].map(|arch| Binary {
        arch,
        file: folder.join(format!("runner-launch-linux-{arch}")),
    })
}

impl Binary {
    /// The emulator that this machine needs for it.
    fn emulator(&self) -> Option<PathBuf> {
        let emulator = format!("qemu-{}-static", self.arch);
        let is_own = self.arch == std::env::consts::ARCH;
        let folders = std::env::var("PATH").unwrap();
        let found = || {
            let mut files = folders.split(':').map(|f| Path::new(f).join(&emulator));
            files.find(|file| file.exists()).expect("the emulator")
        };
        (!is_own).then(found)
    }

    /// Runs it in a changed root that holds it, the emulator where one is needed, and what the test
    /// has put there. Changing roots is the superuser's right.
    fn in_empty_root(&self, root: &Path, env: &[(String, String)], args: &[&str]) -> Output {
        std::fs::copy(&self.file, root.join("runner-launch")).unwrap();
        let mut line: Vec<String> = Vec::new();
        if !nix::unistd::geteuid().is_root() {
            line.extend(["sudo", "--non-interactive"].map(str::to_owned));
        }
        line.extend(["env", "-i"].map(str::to_owned));
        line.extend(env.iter().map(|(name, value)| format!("{name}={value}")));
        line.push("/usr/sbin/chroot".to_owned());
        line.push(root.display().to_string());
        if let Some(emulator) = self.emulator() {
            std::fs::copy(emulator, root.join("qemu")).unwrap();
            line.extend(["/qemu", "-0", "/runner-launch"].map(str::to_owned));
        }
        line.push("/runner-launch".to_owned());
        line.extend(args.iter().map(|arg| (*arg).to_owned()));
        Command::new(&line[0]).args(&line[1..]).output().unwrap()
    }

    fn readelf(&self, option: &str) -> String {
        let mut command = Command::new("readelf");
        text(command.args([option, "--wide"]).arg(&self.file).output())
    }
}

fn text(output: std::io::Result<Output>) -> String {
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    text
}

#[test]
fn small_static_and_stripped() {
    for binary in binaries() {
        let size = std::fs::metadata(&binary.file).unwrap().len() as f64 / MB;
        println!(
            "{}: {size:.2} MB, {:.2} of the aim of {AIM} MB",
            binary.arch,
            size / AIM
        );
        assert!(size < CEILING, "{size} MB");
        let segments = binary.readelf("--program-headers");
        assert!(!segments.contains("INTERP"), "{segments}");
        let dynamic = binary.readelf("--dynamic");
        assert!(!dynamic.contains("NEEDED"), "{dynamic}");
        // Its address is another one each time it runs.
        let header = binary.readelf("--file-header");
        assert!(header.contains("Position-Independent"), "{header}");
        // Without it a panic could not unwind, and a launch that panics not roll back.
        assert!(segments.contains("GNU_EH_FRAME"), "{segments}");
        let sections = binary.readelf("--sections");
        assert!(!sections.contains(".symtab"), "{sections}");
        assert!(!sections.contains(".debug"), "{sections}");
        if binary.emulator().is_none() {
            let told = Command::new("ldd").arg(&binary.file).output().unwrap();
            let told = [told.stdout, told.stderr].concat();
            let told = String::from_utf8_lossy(&told).into_owned();
            assert!(
                told.contains("not a dynamic executable") || told.contains("statically linked"),
                "{told}"
            );
        }
    }
}

#[test]
fn each_tells_its_version_from_an_empty_root() {
    for binary in binaries() {
        let root = tempfile::tempdir().unwrap();
        let told = text(Ok(binary.in_empty_root(root.path(), &[], &["--version"])));
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(told.trim(), format!("runner-launch {version}"));
    }
}

/// No /etc, no /proc, no certificates but the one that is named.
#[tokio::test(flavor = "multi_thread")]
async fn each_speaks_tls_from_an_empty_root() {
    for binary in binaries() {
        let sandbox = Sandbox::start(Config::new(&binary.file)).await.unwrap();
        let plain = sandbox.github().url();
        let (address, authority) = with_tls("127.0.0.1", &plain).await;
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("authority.pem"), authority).unwrap();
        let binary = std::sync::Arc::new(binary);
        let dry_run = |trusting: bool| {
            let mut env = sandbox.env();
            env.retain(|(name, _)| name != "GITHUB_API_URL");
            env.push(("GITHUB_API_URL".into(), address.clone()));
            if trusting {
                env.push(("SSL_CERT_FILE".into(), "/authority.pem".into()));
            }
            let (binary, root) = (binary.clone(), root.path().to_owned());
            tokio::task::spawn_blocking(move || {
                let args = ["launch", "--cloud=aws", "--single", "--dry-run"];
                binary.in_empty_root(&root, &env, &args)
            })
        };
        let trusting = dry_run(true).await.unwrap();
        assert!(trusting.status.success(), "{trusting:?}");
        let told = String::from_utf8_lossy(&trusting.stdout).into_owned();
        assert!(told.contains("Would launch"), "{told}");
        let wary = dry_run(false).await.unwrap();
        assert_eq!(wary.status.code(), Some(1), "{wary:?}");
        let complaint = String::from_utf8_lossy(&wary.stderr).into_owned();
        assert!(complaint.contains("certificate"), "{complaint}");
        assert!(sandbox.shutdown().await.is_empty());
    }
}
