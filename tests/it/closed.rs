//! Promises 3 and 4: closed by default, and no more permission than the lists say.

use crate::world::World;

const KEY: &str = include_str!("../data/debug-key.pem");

#[tokio::test]
async fn no_port_is_open_unless_ssh_is_asked_for() {
    let world = World::new().await;
    let done = world.launch(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let ec2 = world.sandbox.ec2();
    let group_of = |index: usize| {
        let id = ec2.instances()[index].security_groups[0].clone();
        ec2.groups()
            .into_iter()
            .find(|group| group.id == id)
            .unwrap()
    };
    assert!(group_of(0).ingress.is_empty(), "{:?}", group_of(0));
    world.until_clean().await;

    let done = world
        .launch(&["--idle-timeout=1", "--cloud-ssh-cidr=203.0.113.0/24"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert_eq!(group_of(1).ingress, ["tcp 22 203.0.113.0/24"]);
    world.until_clean().await;

    // The closed group is still the one of launches without SSH, and still closed.
    let done = world.launch(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert_eq!(group_of(2).id, group_of(0).id);
    assert!(group_of(2).ingress.is_empty());
    world.finish().await;
}

#[tokio::test]
async fn a_private_key_opens_ssh_for_its_owner_and_never_travels() {
    let world = World::new().await;
    let done = world
        .launch(&["--idle-timeout=1", "--cloud-ssh-private", KEY])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let instance = world.sandbox.ec2().instances().remove(0);
    let user_data = String::from_utf8_lossy(&instance.user_data).into_owned();
    let public = "ssh-rsa AAAAB3NzaC1yc2E";
    assert!(user_data.contains(public));
    for line in KEY.lines().filter(|line| !line.starts_with("-----")) {
        assert!(!user_data.contains(line));
    }
    let keys = world
        .sandbox
        .folder()
        .join("instances")
        .join(&instance.id)
        .join("root/home/ubuntu/.ssh/authorized_keys");
    let keys = std::fs::read_to_string(keys).unwrap();
    assert!(keys.contains(public), "{keys}");
    let group = &instance.security_groups[0];
    let group = world
        .sandbox
        .ec2()
        .groups()
        .into_iter()
        .find(|g| &g.id == group)
        .unwrap();
    assert!(
        group.ingress.contains(&"tcp 22 0.0.0.0/0".to_owned()),
        "{group:?}"
    );
    assert!(
        !world
            .host_calls()
            .iter()
            .any(|call| call.contains("KeyPair"))
    );
    world.finish().await;
}

#[tokio::test]
async fn only_the_specification_s_permissions_are_needed() {
    let listed: Vec<String> = include_str!("../data/permissions-aws.txt")
        .lines()
        .map(str::to_owned)
        .collect();
    let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
    let world = World::new().await;
    world.sandbox.ec2().allow_only(&listed);
    let done = world
        .launch(&[
            "--idle-timeout=1",
            "--cloud-spot",
            "--cloud-ssh-cidr=10.0.0.0/8",
        ])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    for call in world
        .host_calls()
        .iter()
        .filter(|call| call.starts_with("ec2:"))
    {
        let tolerated = [
            "ec2:DescribeInstanceTypes",
            "ec2:DescribeInstanceTypeOfferings",
            "ec2:GetConsoleOutput",
        ];
        assert!(
            listed.contains(&call.as_str()) || tolerated.contains(&call.as_str()),
            "{call}"
        );
    }
    world.until_clean().await;

    // A failing launch asks for the console, and is refused, and says what it knows all the same.
    world
        .sandbox
        .fault("download:agent", None, sandbox::FaultKind::Status(404));
    let done = world.launch(&["--timeout=10"]).await;
    assert_eq!(done.code, 5, "{}", world.report());
    assert!(done.stderr.contains("no output"), "{}", done.stderr);
    world.finish().await;
}

#[tokio::test]
async fn a_subnet_and_a_group_of_the_user_s_are_used_as_they_are() {
    let world = World::new().await;
    let done = world.launch(&["--dry-run", "--output=json"]).await;
    let report: serde_json::Value = serde_json::from_str(done.stdout.trim()).unwrap();
    let subnet = report["candidates"][1]["network"]
        .as_str()
        .unwrap()
        .to_owned();
    let zone = report["candidates"][1]["zone"].clone();
    let before = world.sandbox.ec2().groups().len();
    let done = world
        .launch(&[
            "--idle-timeout=1",
            "--cloud-aws-subnet-id",
            &subnet,
            "--cloud-aws-security-group=default",
        ])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let instance = world.sandbox.ec2().instances().remove(0);
    assert_eq!(instance.subnet.as_deref(), Some(subnet.as_str()));
    assert_eq!(serde_json::Value::from(instance.zone), zone);
    assert_eq!(world.sandbox.ec2().groups().len(), before);
    world.until_clean().await;
    for (option, value) in [
        ("--cloud-aws-subnet", "subnet-00000000000000000"),
        ("--cloud-aws-security-group", "no such group"),
        ("--cloud-aws-security-group", "sg-00000000000000000"),
        ("--cloud-image", "ami-00000000000000000"),
        ("--cloud-image", "no such image"),
    ] {
        let done = world.launch(&[option, value]).await;
        assert_ne!(done.code, 0, "{option} {value}");
        assert!(
            done.stderr.contains(value),
            "{option} {value}: {}",
            done.stderr
        );
    }
    assert_eq!(world.sandbox.ec2().instances().len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn without_a_default_vpc_the_error_names_the_option() {
    let world = World::new().await;
    world.sandbox.ec2().remove_default_vpc();
    let done = world.launch(&["--single"]).await;
    assert_ne!(done.code, 0);
    assert!(
        done.stderr.contains("--cloud-aws-subnet"),
        "{}",
        done.stderr
    );
    world.finish().await;
}
