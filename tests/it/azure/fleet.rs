//! `list`, `stop` and `sweep` on Azure.

use std::time::Duration;

use serde_json::Value;

use crate::world::World;

const HOUR: Duration = Duration::from_secs(3600);

/// Launches a runner that stays; the answer is its group's name.
async fn add(world: &World, name: &str, args: &[&str]) -> String {
    let stays = ["--idle-timeout=never", "--labels=stays", "--name", name];
    let done = world.launch_azure(&[&stays, args].concat()).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let live = world.sandbox.azure().live();
    let named = live.iter().find(|i| i.name.starts_with(name));
    named.expect("it lives").name.clone()
}

/// What `list` tells of a region: ids, states, and what the runners do.
async fn listed(world: &World, region: &str) -> Vec<(String, String, String)> {
    let rows = rows(world, region).await;
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    rows.iter()
        .map(|row| (text(row, "id"), text(row, "state"), text(row, "runner")))
        .collect()
}

async fn rows(world: &World, region: &str) -> Vec<Value> {
    let region = format!("--cloud-region={region}");
    let done = world
        .run(&["list", "--cloud=azure", "--output=json", &region])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    serde_json::from_str(&done.stdout).unwrap()
}

async fn sweep(world: &World, more: &[&str]) -> String {
    let base = ["sweep", "--cloud=azure", "--older-than=12h"];
    let done = world.run(&[&base, more].concat()).await;
    assert_eq!(done.code, 0, "{}", world.report());
    done.stdout
}

#[tokio::test]
async fn what_was_launched_is_listed_stopped_and_swept() {
    let world = World::new().await;
    let azure = world.sandbox.azure();
    // Whatever Azure lists comes in pages.
    azure.set_page_size(1);
    let one = add(&world, "one", &[]).await;
    let two = add(&world, "two", &[]).await;
    let far = add(&world, "far", &["--cloud-region=eu-west", "--cloud-spot"]).await;

    let running = |id: &String| (id.clone(), "running".to_owned(), "idle".to_owned());
    assert_eq!(
        listed(&world, "us-west").await,
        [running(&one), running(&two)]
    );
    assert_eq!(listed(&world, "eu-west").await, [running(&far)]);
    for (region, index) in [("us-west", 0), ("eu-west", 2)] {
        let made = azure.instances().remove(index);
        let row = rows(&world, region).await.remove(0);
        assert_eq!(row["instanceType"], made.size.as_str(), "{row}");
        assert_eq!(row["region"], made.region.as_str(), "{row}");
        assert_eq!(row["ip"], made.public_ip.unwrap().as_str(), "{row}");
        assert_eq!(row["spot"], made.spot, "{row}");
        assert!(row["ageSeconds"].as_i64().unwrap() < 300, "{row}");
    }
    let done = world.run(&["list", "--cloud=azure"]).await;
    let row = done.stdout.lines().find(|line| line.contains(&one));
    let made = azure.instances().remove(0);
    for part in [
        "one",
        "running",
        "idle",
        &made.region,
        &made.size,
        "/octo/repo",
    ] {
        assert!(
            row.is_some_and(|row| row.contains(part)),
            "{part}: {}",
            done.stdout
        );
    }

    // By the runner's name, by the group's; said again, and what never was.
    let never = "never-was-0123456789ab";
    for target in ["one", two.as_str(), two.as_str(), "never-was", never] {
        let done = world.run(&["stop", "--cloud=azure", target]).await;
        assert_eq!(done.code, 0, "{target}: {}", world.report());
    }
    let runners = world.sandbox.github().runners();
    assert_eq!(runners.len(), 1, "{runners:?}");

    azure.age(&far, 13 * HOUR);
    let place = "--cloud-region=eu-west";
    assert!(
        !sweep(&world, &[place]).await.contains(&far),
        "its runner waits"
    );
    azure.freeze(&far);
    world
        .until("the forge misses it", || {
            world.sandbox.github().runners().iter().all(|r| !r.online)
        })
        .await;
    assert!(sweep(&world, &[place, "--dry-run"]).await.contains(&far));
    assert_eq!(azure.live().len(), 1, "{}", world.report());
    assert!(sweep(&world, &[place]).await.contains(&far));
    world.finish().await;
}

#[tokio::test]
async fn what_is_off_is_listed_as_stopped_and_swept_sooner() {
    let world = World::new().await;
    let azure = world.sandbox.azure();
    // Nobody on the machine may delete it.
    azure.deny("Microsoft.Authorization/roleAssignments/write");
    for (name, ends) in [
        ("off", "stopped"),
        ("bare", "deallocated"),
        ("gone", "deleted"),
    ] {
        let id = add(&world, name, &["--cloud-keep-until-stopped"]).await;
        match ends {
            "stopped" => azure.stop(&id),
            "deallocated" => azure.deallocate(&id),
            _ => azure.delete_machine(&id),
        }
        world
            .until(ends, || {
                let all = azure.instances();
                all.iter().any(|i| i.name == id && i.state == ends)
            })
            .await;
        let rows = listed(&world, "us-west").await;
        let expected = match ends {
            // A group without a machine is one that is being made, for a while.
            "deleted" => "pending",
            _ => "stopped",
        };
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(
            (&rows[0].0, rows[0].1.as_str()),
            (&id, expected),
            "{rows:?}"
        );
        if ends == "deleted" {
            let done = world.run(&["stop", "--cloud=azure", name]).await;
            assert_eq!(done.code, 0, "{}", world.report());
        } else {
            assert_eq!(sweep(&world, &[]).await.trim(), "", "it is young");
            azure.age(&id, HOUR);
            assert!(sweep(&world, &[]).await.contains(&id), "{}", world.report());
        }
        world.until_clean().await;
    }
    world.finish().await;
}

#[tokio::test]
async fn a_group_whose_machine_is_gone_is_swept() {
    let world = World::new().await;
    let azure = world.sandbox.azure();
    let url = "https://github.com/octo/repo";
    let tags = |time| {
        [
            ("runner-launch", "0.3.0"),
            ("runner-launch-id", "0123456789abcdef"),
            ("runner-launch-serves", url),
            ("runner-launch-name", "late"),
            ("runner-launch-time", time),
        ]
    };
    let now = jiff::Timestamp::now().to_string();
    azure.add_group(
        "late-0123456789ab",
        "us-west",
        &tags("2026-01-01T00:00:00Z"),
    );
    azure.add_group("young-0123456789ab", "us-west", &tags(&now));
    let rows = listed(&world, "us-west").await;
    let states: Vec<_> = rows
        .iter()
        .map(|row| (row.0.as_str(), row.1.as_str()))
        .collect();
    assert_eq!(
        states,
        [
            ("late-0123456789ab", "stopped"),
            ("young-0123456789ab", "pending")
        ]
    );
    let swept = sweep(&world, &[]).await;
    assert!(swept.contains("late-0123456789ab"), "{swept}");
    assert!(!swept.contains("young"), "{swept}");
    let done = world
        .run(&["stop", "--cloud=azure", "young-0123456789ab"])
        .await;
    assert_eq!(done.code, 0, "{}", world.report());
    world.finish().await;
}

#[tokio::test]
async fn what_is_not_ours_is_never_touched() {
    let world = World::new().await;
    let azure = world.sandbox.azure();
    let name = add(&world, "mine", &[]).await;
    azure.untag(&name);
    azure.age(&name, 13 * HOUR);
    let old = ("runner-launch-time", "2026-01-01T00:00:00Z");
    // One of the two tags alone may be anybody's.
    let foreign = [
        ("theirs-0123456789ab", vec![("team", "data"), old]),
        ("half-0123456789ab", vec![("runner-launch", "mine"), old]),
        (
            "other-0123456789ab",
            vec![("runner-launch-id", "0123"), old],
        ),
    ];
    for (group, tags) in &foreign {
        azure.add_group(group, "us-west", tags);
    }
    assert!(listed(&world, "us-west").await.is_empty());
    assert_eq!(sweep(&world, &["--all"]).await.trim(), "");
    for target in foreign
        .iter()
        .map(|(group, _)| *group)
        .chain([name.as_str()])
    {
        let done = world.run(&["stop", "--cloud=azure", target]).await;
        assert_eq!(done.code, 2, "{target}: {}", world.report());
        assert!(
            done.stderr.contains("was not launched by"),
            "{}",
            done.stderr
        );
    }
    let groups = azure.groups();
    assert_eq!(groups.len(), 4, "{groups:?}");
    assert!(groups.iter().all(|group| !group.deleting), "{groups:?}");
    assert_eq!(azure.live().len(), 1, "{}", world.report());
    assert!(azure.kill_agent(&name));
    for (group, _) in &foreign {
        azure.remove_group(group);
    }
    world
        .until("the group goes", || azure.groups().is_empty())
        .await;
    world.finish().await;
}

#[tokio::test]
async fn a_missing_permission_is_exit_code_3_and_named() {
    const DELETE: &str = "Microsoft.Resources/subscriptions/resourceGroups/delete";
    let world = World::new().await;
    let azure = world.sandbox.azure();
    let name = add(&world, "stays", &[]).await;
    azure.deny(DELETE);
    azure.age(&name, HOUR * 13);
    for command in [
        &["stop", "--cloud=azure", "stays"][..],
        &["sweep", "--cloud=azure", "--older-than=12h", "--all"],
    ] {
        let done = world.run(command).await;
        assert_eq!(done.code, 3, "{}", world.report());
        for part in [DELETE, name.as_str()] {
            assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
        }
    }
    // The record of a runner whose machine lives on stays, too.
    assert_eq!(world.sandbox.github().runners().len(), 1);
    // What the launcher may not, the machine may.
    azure.press_power_button(&name);
    world.finish().await;
}
