//! Whole instances: user data in, states and processes out.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE;

use crate::ec2::{Ec2, InstanceView, launch_for_test};
use crate::{Config, Sandbox};

async fn sandbox(change: impl FnOnce(&mut Config)) -> Sandbox {
    let mut config = Config::new("/bin/true");
    config.boot_delay = Duration::from_millis(1);
    config.shutdown_delay = Duration::from_millis(1);
    config.visibility_delay = Duration::ZERO;
    change(&mut config);
    Sandbox::start(config).await.unwrap()
}

/// Launches an instance with this script; the answer is its id.
fn launch(ec2: &Ec2, script: &str, more: &str) -> String {
    let data = BASE64_URL_SAFE
        .encode(script)
        .replace('-', "%2B")
        .replace('_', "%2F");
    let data = data.replace('=', "%3D");
    launch_for_test(
        ec2,
        &format!("UserData={data}&InstanceInitiatedShutdownBehavior=terminate&{more}"),
    )
}

async fn until(what: impl AsyncFn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(30) {
        if what().await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

fn view(ec2: &Ec2, id: &str) -> InstanceView {
    ec2.instances()
        .into_iter()
        .find(|instance| instance.id == id)
        .unwrap()
}

async fn until_state(ec2: &Ec2, id: &str, state: &str) {
    assert!(
        until(async || view(ec2, id).state == state).await,
        "{} instead of {state}; console:\n{}",
        view(ec2, id).state,
        ec2.console(id)
    );
}

async fn until_printed(ec2: &Ec2, id: &str, text: &str) {
    assert!(
        until(async || ec2.console(id).contains(text)).await,
        "no {text:?} in:\n{}",
        ec2.console(id)
    );
}

/// A service whose main process takes signals as an agent does.
const SERVICE: &str = r#"#!/bin/sh
set -eu
root=$RUNNER_LAUNCH_ROOT
cat >"$root/usr/local/bin/agent" <<'AGENT'
#!/bin/sh
trap 'echo "agent: told to end"; kill "$job"; exit 0' TERM
env -i setsid sleep 600 &
job=$!
echo "agent: up"
wait
AGENT
cat >"$root/usr/local/bin/release" <<'RELEASE'
#!/bin/sh
echo "release: $SERVICE_RESULT $EXIT_CODE $EXIT_STATUS"
RELEASE
chmod 755 "$root/usr/local/bin/agent" "$root/usr/local/bin/release"
cat >"$root/etc/systemd/system/runner-launch.service" <<UNIT
[Service]
Type=exec
ExecStart=/bin/sh $root/usr/local/bin/agent
ExecStopPost=-/bin/sh $root/usr/local/bin/release
KillMode=mixed
TimeoutStopSec=180
UNIT
systemctl daemon-reload
systemctl start runner-launch.service
systemctl is-active runner-launch.service
"#;

#[tokio::test]
async fn a_script_that_powers_off_ends_its_instance() {
    let sandbox = sandbox(|_| {}).await;
    let ec2 = sandbox.ec2();
    let id = launch(
        &ec2,
        "#!/bin/sh\necho \"here is $HOME\"\necho marker >\"$RUNNER_LAUNCH_ROOT/var/marker\"\nsync\nsystemctl poweroff\n",
        "",
    );
    until_state(&ec2, &id, "terminated").await;
    assert_eq!(
        view(&ec2, &id).reason.as_deref(),
        Some("Client.InstanceInitiatedShutdown")
    );
    let marker = std::fs::read_to_string(ec2.disk(&id).join("var/marker"));
    assert_eq!(marker.unwrap(), "marker\n");
    let home = format!("here is {}/root\n", ec2.disk(&id).display());
    assert!(ec2.console(&id).contains(&home), "{}", ec2.console(&id));
    assert!(ec2.processes(&id).is_empty());
    assert!(
        sandbox
            .argument_lists()
            .iter()
            .any(|list| list.contains("part-001"))
    );
    assert_eq!(sandbox.shutdown().await, Vec::<String>::new());
}

#[tokio::test]
async fn compressed_user_data_is_executed_and_stop_means_stopped() {
    use std::io::Write;
    let sandbox = sandbox(|_| {}).await;
    let ec2 = sandbox.ec2();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(b"#!/bin/sh\nshutdown -P now\n").unwrap();
    let data = BASE64_URL_SAFE.encode(encoder.finish().unwrap());
    let data = data
        .replace('-', "%2B")
        .replace('_', "%2F")
        .replace('=', "%3D");
    let id = launch_for_test(&ec2, &format!("UserData={data}"));
    until_state(&ec2, &id, "stopped").await;
    let leaks = sandbox.shutdown().await;
    assert_eq!(leaks, [format!("instance {id} is stopped")]);
}

#[tokio::test]
async fn the_power_button_stops_the_service_first() {
    let sandbox = sandbox(|_| {}).await;
    let ec2 = sandbox.ec2();
    let id = launch(&ec2, SERVICE, "");
    until_printed(&ec2, &id, "agent: up").await;
    until_printed(&ec2, &id, "\nactive\n").await;
    ec2.press_power_button(&id);
    until_state(&ec2, &id, "terminated").await;
    let console = ec2.console(&id);
    let told = console.find("agent: told to end").unwrap();
    let released = console.find("release: success exited 0").unwrap();
    assert!(told < released, "{console}");
    assert_eq!(sandbox.shutdown().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_killed_service_is_cleaned_up_after() {
    let sandbox = sandbox(|_| {}).await;
    let ec2 = sandbox.ec2();
    let id = launch(&ec2, SERVICE, "");
    until_printed(&ec2, &id, "agent: up").await;
    let runaway = async || {
        let processes = ec2.processes(&id);
        processes
            .iter()
            .any(|process| process.argv == ["sleep", "600"])
    };
    assert!(until(runaway).await);
    assert!(ec2.kill_agent(&id));
    until_printed(&ec2, &id, "release: signal killed KILL").await;
    // The control group went before the release ran.
    assert!(!runaway().await);
    assert!(!ec2.kill_agent(&id));
    assert_eq!(view(&ec2, &id).state, "running");
}

#[tokio::test]
async fn a_timer_powers_off_unless_it_is_stopped() {
    let sandbox = sandbox(|_| {}).await;
    let ec2 = sandbox.ec2();
    let timer = "#!/bin/sh\nsystemd-run --quiet --collect --unit=deadline --on-active=1 \
                 /bin/sh -c 'echo \"too late\"; systemctl poweroff || poweroff -f'\n";
    let armed = launch(&ec2, timer, "");
    let disarmed = launch(
        &ec2,
        &format!(
            "{timer}systemctl stop deadline.timer\necho stopped\nsystemctl stop deadline.timer || echo \"gone: $?\"\n"
        ),
        "",
    );
    until_state(&ec2, &armed, "terminated").await;
    assert!(ec2.console(&armed).contains("too late"));
    until_printed(&ec2, &disarmed, "gone: 5").await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(view(&ec2, &disarmed).state, "running");
}

#[tokio::test]
async fn users_exist_on_the_instance_alone() {
    let sandbox = sandbox(|_| {}).await;
    let ec2 = sandbox.ec2();
    let id = launch(
        &ec2,
        r#"#!/bin/sh
set -eu
id -u runner 2>/dev/null || echo "nobody yet"
useradd --create-home --shell /bin/bash runner
getent group docker >/dev/null
usermod -aG docker runner
usermod -aG docker runner
grep '^docker:' "$RUNNER_LAUNCH_ROOT/etc/group"
getent passwd runner
: >"$RUNNER_LAUNCH_ROOT/home/runner/file"
chown -R runner: "$RUNNER_LAUNCH_ROOT/home/runner"
stat -c 'owner %u' "$RUNNER_LAUNCH_ROOT/home/runner/file"
echo "uid $(id -u runner)"
chown runner /etc/passwd || echo "the host is safe"
reboot || echo "no reboot"
"#,
        "",
    );
    until_printed(&ec2, &id, "cloud-init: finished").await;
    let console = ec2.console(&id);
    let uid = console
        .lines()
        .find_map(|line| line.strip_prefix("uid "))
        .unwrap();
    for line in [
        "nobody yet",
        "docker:x:998:runner",
        &format!("runner:x:{uid}:{uid}::/home/runner:/bin/bash"),
        &format!("owner {uid}"),
        "the host is safe",
        "no reboot",
    ] {
        assert!(
            console.lines().any(|have| have == line),
            "{line:?} not in {console}"
        );
    }
    if nix::unistd::geteuid().is_root() {
        assert!(uid.parse::<u32>().unwrap() >= super::FIRST_USER);
    }
}

#[tokio::test]
async fn packages_are_there_when_installed() {
    let sandbox = sandbox(|config| config.docker_installed = false).await;
    let ec2 = sandbox.ec2();
    let script = r#"#!/bin/sh
for name in docker git; do command -v "$name" >/dev/null || echo "no $name"; done
command -v apt-get || command -v dnf
apt-get -qq -o DPkg::Lock::Timeout=300 update
apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends docker.io git '^libicu[0-9]+$' && echo installed
apt-get install -y nonsense || echo "refused: $?"
docker --version
git --version
ls "$RUNNER_LAUNCH_ROOT"/usr/lib/*/libicuuc.so.*
"#;
    let id = launch(&ec2, script, "");
    until_printed(&ec2, &id, "cloud-init: finished").await;
    let console = ec2.console(&id);
    for text in [
        "no docker\nno git\n",
        "bin/apt-get\n",
        "installed\n",
        "refused: 100\n",
        "Docker version",
        "git version",
        "libicuuc.so.74",
    ] {
        assert!(console.contains(text), "{text:?} not in {console}");
    }
}

/// Reads a URL as an instance's process would.
const METADATA: &str = r#"#!/bin/sh
base=$AWS_EC2_METADATA_SERVICE_ENDPOINT
curl -s -o /dev/null -w 'v1 %{http_code}\n' "$base/latest/meta-data/instance-id"
token=$(curl -s -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$base/latest/api/token")
get() {
  curl -s -w ' %{http_code}\n' -H "X-aws-ec2-metadata-token: $token" "$base/latest/$1"
}
get meta-data/instance-id
get meta-data/placement/region
get meta-data/iam/security-credentials/
while ! get meta-data/spot/instance-action | grep terminate; do sleep 0.05; done
sleep 600
"#;

#[tokio::test]
async fn an_interruption_is_announced_by_the_metadata_service() {
    let sandbox = sandbox(|config| config.spot_notice = Duration::from_millis(700)).await;
    let ec2 = sandbox.ec2();
    let id = launch(
        &ec2,
        METADATA,
        "InstanceMarketOptions.MarketType=spot&MetadataOptions.HttpTokens=required&\
         IamInstanceProfile.Name=ci-runner",
    );
    until_printed(&ec2, &id, "ci-runner 200").await;
    let console = ec2.console(&id);
    assert!(console.contains("v1 401\n"), "{console}");
    assert!(console.contains(&format!("{id} 200\n")), "{console}");
    assert!(console.contains("us-west-2 200\n"), "{console}");
    ec2.interrupt(&id);
    until_printed(&ec2, &id, "{\"action\":\"terminate\"").await;
    until_state(&ec2, &id, "terminated").await;
    assert_eq!(
        view(&ec2, &id).reason.as_deref(),
        Some("Server.SpotInstanceTermination")
    );
    // Its calls are known to be its own.
    assert!(sandbox.calls().iter().any(|call| {
        call.name == "imds:PUT /latest/api/token"
            && call.peer == crate::Caller::Instance(id.clone())
    }));
}

#[tokio::test]
async fn a_job_of_another_user_is_known_by_its_connection() {
    let sandbox = sandbox(|_| {}).await;
    let ec2 = sandbox.ec2();
    // Without the variable, in a session of its own, by way of setpriv where that is allowed.
    let id = launch(
        &ec2,
        r#"#!/bin/sh
url=$AWS_EC2_METADATA_SERVICE_ENDPOINT
useradd --create-home runner
uid=$(id -u runner)
change=
[ "$(id -u)" != 0 ] || change="setpriv --reuid=$uid --regid=$uid --clear-groups"
cd /
env -i PATH="$PATH" $change setsid sh -c "curl -s -o /dev/null $url/from-a-job; echo called; sleep 600" &
wait
"#,
        "",
    );
    until_printed(&ec2, &id, "called").await;
    let calls = sandbox.calls();
    let call = calls
        .iter()
        .find(|call| call.name == "imds:GET /from-a-job")
        .unwrap();
    assert_eq!(call.peer, crate::Caller::Instance(id.clone()));
    drop(sandbox);
    assert!(ec2.processes(&id).is_empty());
}

#[tokio::test]
async fn a_dropped_sandbox_leaves_no_process() {
    let sandbox = sandbox(|_| {}).await;
    let ec2 = sandbox.ec2();
    let id = launch(&ec2, SERVICE, "");
    until_printed(&ec2, &id, "agent: up").await;
    let pids: Vec<i32> = ec2
        .processes(&id)
        .iter()
        .map(|process| process.pid)
        .collect();
    assert!(pids.len() >= 2, "{pids:?}");
    drop(sandbox);
    let alive = |pid: &i32| {
        Path::new(&format!("/proc/{pid}/cmdline")).exists()
            && super::procfs::stat(*pid).is_some_and(|stat| !stat.is_zombie())
    };
    assert!(!pids.iter().any(alive));
}
