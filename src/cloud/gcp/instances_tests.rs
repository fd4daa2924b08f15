use super::*;

/// An instance in the form of the API's reference, shortened to what we read and its neighbours.
fn item(status: &str) -> Item {
    serde_json::from_value(serde_json::json!({
        "kind": "compute#instance",
        "id": "1234567890123456789",
        "creationTimestamp": "2026-01-01T01:02:03.456-08:00",
        "name": "cml-x-0a1b2c3d4e5f",
        "description": "runner-launch 0a1b2c3d4e5f6g7h8i9j: cml-x for https://github.com/o/r",
        "status": status,
        "statusMessage": "Instance stopped due to preemption.",
        "zone": "https://www.googleapis.com/compute/v1/projects/p/zones/us-west1-b",
        "machineType":
            "https://www.googleapis.com/compute/v1/projects/p/zones/us-west1-b/machineTypes/n2-standard-8",
        "lastStopTimestamp": "2026-01-01T03:00:00.000-08:00",
        "scheduling": {"provisioningModel": "SPOT", "preemptible": true},
        "disks": [{"boot": true, "diskSizeGb": "35"}],
        "networkInterfaces": [{
            "networkIP": "10.138.0.2",
            "accessConfigs": [{"natIP": "203.0.113.7"}],
        }],
    }))
    .unwrap()
}

#[test]
fn a_published_answer_is_read() {
    let instance = item("RUNNING").instance();
    assert_eq!(instance.reference.id, "cml-x-0a1b2c3d4e5f");
    assert_eq!(instance.reference.region, "us-west1-b");
    assert_eq!(instance.zone.as_deref(), Some("us-west1-b"));
    assert_eq!(instance.name.as_deref(), Some("cml-x"));
    assert_eq!(instance.serves.as_deref(), Some("https://github.com/o/r"));
    assert!(instance.is_ours && instance.spot);
    assert_eq!(instance.instance_type, "n2-standard-8");
    assert_eq!(instance.ip.as_deref(), Some("203.0.113.7"));
    assert_eq!(instance.disk_gb, Some(35));
    assert_eq!(
        instance.launch_time.unwrap().to_string(),
        "2026-01-01T09:02:03.456Z"
    );
    assert_eq!(instance.reason, None);
    let stopped = item("TERMINATED").instance();
    assert_eq!(
        stopped.reason.as_deref(),
        Some("Instance stopped due to preemption.")
    );
}

#[test]
fn every_status_has_its_state() {
    let cases = [
        ("PENDING", InstanceState::Pending),
        ("PROVISIONING", InstanceState::Pending),
        ("STAGING", InstanceState::Pending),
        ("RUNNING", InstanceState::Running),
        ("REPAIRING", InstanceState::Running),
        ("DEPROVISIONING", InstanceState::Ending),
        ("PENDING_STOP", InstanceState::Stopped),
        ("STOPPING", InstanceState::Ending),
        ("STOPPED", InstanceState::Stopped),
        ("SUSPENDING", InstanceState::Stopped),
        ("SUSPENDED", InstanceState::Stopped),
        ("TERMINATED", InstanceState::Stopped),
    ];
    for (status, expected) in cases {
        assert_eq!(state(status), expected, "{status}");
    }
}

#[test]
fn only_what_has_stopped_has_stopped_since() {
    assert_eq!(
        item("TERMINATED").stopped_since().unwrap().to_string(),
        "2026-01-01T11:00:00Z"
    );
    assert_eq!(item("RUNNING").stopped_since(), None);
    assert_eq!(item("STOPPING").stopped_since(), None);
}

#[test]
fn somebody_elses_instance_isnt_ours() {
    let mut other = item("RUNNING");
    other.name = "database-1".into();
    assert_eq!(other.launch_id(), None);
    let instance = other.instance();
    assert!(!instance.is_ours);
    assert_eq!(instance.name, None);
}

#[test]
fn regions_have_their_zones() {
    assert!(is_in("us-west1-b", "us-west1-b"));
    assert!(is_in("us-west1-b", "us-west1"));
    assert!(!is_in("us-west1-b", "us-west1-a"));
    assert!(!is_in("us-west1-b", "us-west"));
}
