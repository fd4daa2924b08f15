//! What AWS alone has: credentials, images, capacity.

use crate::world::World;

#[tokio::test]
async fn no_capacity_leads_to_the_next_zone_type_and_region() {
    let world = World::new().await;
    let ec2 = world.sandbox.ec2();
    ec2.exhaust(
        None,
        Some("m5.2xlarge"),
        None,
        "InsufficientInstanceCapacity",
    );
    ec2.exhaust(
        None,
        Some("m7g.2xlarge"),
        Some(true),
        "InsufficientInstanceCapacity",
    );
    ec2.exhaust(
        Some("eu-west-1a"),
        None,
        None,
        "InsufficientInstanceCapacity",
    );
    let done = world
        .launch(&[
            "--cloud-type=m5.2xlarge,m7g.2xlarge",
            "--cloud-region=eu-west,us-east",
            "--cloud-spot",
            "--cloud-spot-fallback",
            "--idle-timeout=1",
        ])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    let made = ec2.instances();
    assert_eq!(made.len(), 1);
    assert_eq!(
        (made[0].instance_type.as_str(), made[0].spot),
        ("m7g.2xlarge", false)
    );
    assert_eq!(made[0].region, "eu-west-1");
    assert_ne!(made[0].zone, "eu-west-1a");
    world.finish().await;
}

#[tokio::test]
async fn capacity_that_is_nowhere_is_exit_code_4_and_leaves_nothing() {
    let world = World::new().await;
    world
        .sandbox
        .ec2()
        .exhaust(None, None, None, "VcpuLimitExceeded");
    let done = world.launch(&["--single"]).await;
    assert_eq!(done.code, 4, "{}", world.report());
    assert!(done.stderr.contains("VcpuLimitExceeded"), "{}", done.stderr);
    assert!(done.stderr.contains("Service Quotas"), "{}", done.stderr);
    assert!(world.is_clean(), "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn a_wrong_secret_and_a_missing_permission_are_exit_code_3() {
    let mut world = World::new().await;
    let keep = [
        "ec2:DescribeImages",
        "ec2:DescribeInstances",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcs",
        "ec2:DescribeSecurityGroups",
        "ec2:CreateSecurityGroup",
        "ec2:CreateTags",
        "ec2:TerminateInstances",
        "sts:DecodeAuthorizationMessage",
    ];
    world.sandbox.ec2().allow_only(&keep);
    let done = world.launch(&["--single"]).await;
    assert_eq!(done.code, 3, "{}", world.report());
    assert!(done.stderr.contains("ec2:RunInstances"), "{}", done.stderr);
    assert!(world.is_clean(), "{}", world.report());
    world.set(
        "AWS_SECRET_ACCESS_KEY",
        Some("wrongwrongwrongwrongwrongwrongwrongwrong"),
    );
    let done = world.launch(&["--single"]).await;
    assert_eq!(done.code, 3, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn every_source_of_credentials_works() {
    let mut world = World::new().await;
    let none = world.folder().join("nothing");
    world.set("AWS_ACCESS_KEY_ID", None);
    world.set("AWS_SECRET_ACCESS_KEY", None);
    world.set("AWS_CONFIG_FILE", none.to_str());
    world.set("AWS_SHARED_CREDENTIALS_FILE", none.to_str());
    let dry = ["--dry-run"];
    let done = world.launch(&dry).await;
    assert_eq!(done.code, 3, "{}", world.report());
    assert!(done.stderr.contains("AWS_ACCESS_KEY_ID"), "{}", done.stderr);

    let (role, jwt) = world.sandbox.ec2().web_identity();
    let file = world.folder().join("jwt");
    std::fs::write(&file, jwt).unwrap();
    world.set("AWS_ROLE_ARN", Some(&role));
    world.set("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str());
    let done = world.launch(&dry).await;
    assert_eq!(done.code, 0, "web identity: {}", world.report());
    std::fs::write(&file, "forged").unwrap();
    let done = world.launch(&dry).await;
    assert_eq!(done.code, 3, "{}", world.report());
    world.set("AWS_ROLE_ARN", None);
    world.set("AWS_WEB_IDENTITY_TOKEN_FILE", None);

    for (name, value) in world.sandbox.container_credentials() {
        world.set(&name, Some(&value));
    }
    let done = world.launch(&dry).await;
    assert_eq!(done.code, 0, "container: {}", world.report());
    for (name, _) in world.sandbox.container_credentials() {
        world.set(&name, None);
    }

    world.sandbox.enable_host_metadata();
    let done = world.launch(&dry).await;
    assert_eq!(done.code, 0, "instance metadata: {}", world.report());

    let keys: Vec<(String, String)> = world.sandbox.env();
    let key = |name: &str| {
        keys.iter()
            .find(|(known, _)| known == name)
            .unwrap()
            .1
            .clone()
    };
    let file = world.folder().join("credentials");
    std::fs::write(
        &file,
        format!(
            "[ci]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            key("AWS_ACCESS_KEY_ID"),
            key("AWS_SECRET_ACCESS_KEY")
        ),
    )
    .unwrap();
    world.set("AWS_SHARED_CREDENTIALS_FILE", file.to_str());
    world.set("AWS_PROFILE", Some("ci"));
    let done = world.launch(&dry).await;
    assert_eq!(done.code, 0, "profile: {}", world.report());
    world.set("AWS_PROFILE", Some("other"));
    let done = world.launch(&dry).await;
    assert_ne!(done.code, 0, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn types_get_the_image_of_their_architecture_and_with_their_drivers() {
    let world = World::new().await;
    for (wanted, instance_type, image, arch) in [
        ("m", "m5.2xlarge", "ubuntu-noble-24.04-amd64", "x86_64"),
        (
            "m6g.2xlarge",
            "m6g.2xlarge",
            "ubuntu-noble-24.04-arm64",
            "aarch64",
        ),
        ("m+t4", "g4dn.xlarge", "Nvidia Driver GPU AMI", "x86_64"),
        ("m+a10g", "g5.xlarge", "Nvidia Driver GPU AMI", "x86_64"),
        (
            "g5g.xlarge",
            "g5g.xlarge",
            "Nvidia Driver GPU AMI",
            "aarch64",
        ),
    ] {
        let done = world
            .launch(&[
                "--dry-run",
                "--output=json",
                "--cloud-region=us-east",
                "--cloud-type",
                wanted,
            ])
            .await;
        assert_eq!(done.code, 0, "{wanted}: {}", done.stderr);
        let report: serde_json::Value = serde_json::from_str(done.stdout.trim()).unwrap();
        let first = &report["candidates"][0];
        assert_eq!(first["instanceType"], instance_type);
        assert_eq!(first["arch"], arch);
        assert!(
            first["imageName"].as_str().unwrap().contains(image),
            "{wanted}: {first}"
        );
    }
    let done = world.launch(&["--cloud-type=m", "--cloud-gpu=k80"]).await;
    assert_eq!(done.code, 4, "{}", done.stderr);
    assert!(
        done.stderr.contains("g4dn.xlarge") || done.stderr.contains("g5.xlarge"),
        "{}",
        done.stderr
    );
    world.finish().await;
}
