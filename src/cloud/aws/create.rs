//! Making the instance: one RunInstances per way tried, until one succeeds.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::asked::{Asked, TAG_NAME};
use super::client::{Failure, Query};
use super::instances::Reservation;
use super::network;
use super::plan::{AwsPlan, Way};
use super::refusal::{Meaning, Refusal};
use super::sizes;
use crate::cloud::told::{self, Refused};
use crate::cloud::{
    Candidate, ClosedMetadata, GiveBack, Instance, MachineSide, NoticeSource, Order, Plan, Setting,
    TAG_LAUNCH, TAG_OWNER, TAG_SERVES,
};
use crate::error::{Error, Result};

/// The most user data that EC2 takes, before Base64.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html>
const USER_DATA_LIMIT: usize = 16_384;

/// The longest client token. <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html>
const CLIENT_TOKEN_LIMIT: usize = 64;

#[async_trait]
impl Plan for AwsPlan {
    fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn regions(&self) -> Vec<String> {
        let regions: BTreeSet<&String> =
            self.candidates.iter().map(|known| &known.region).collect();
        regions.into_iter().cloned().collect()
    }

    fn user_data_limit(&self) -> usize {
        USER_DATA_LIMIT
    }

    fn machine(&self) -> MachineSide {
        MachineSide {
            setting: Setting::Machine,
            notices: Some(NoticeSource::Aws),
            // Instances are made with "terminate on shutdown".
            give_back: GiveBack::PowerOff,
            farewell: String::new(),
            closed: ClosedMetadata::Paths(&["/user-data"]),
        }
    }

    async fn create(&self, order: &Order) -> Result<Instance> {
        let mut made = self.made.lock().await;
        if let Some((id, instance)) = made.as_ref()
            && *id == order.launch_id
        {
            return Ok(instance.clone());
        }
        let instance = Box::pin(self.try_all(order)).await?;
        *made = Some((order.launch_id.clone(), instance.clone()));
        Ok(instance)
    }
}

/// A way that was tried, and how EC2 refused it.
struct Tried<'a> {
    candidate: &'a Candidate,
    refusal: Refusal,
}

impl AwsPlan {
    async fn try_all(&self, order: &Order) -> Result<Instance> {
        let mut groups: BTreeMap<&str, String> = BTreeMap::new();
        let mut tried: Vec<Tried<'_>> = Vec::new();
        for (index, (candidate, way)) in self.candidates.iter().zip(&self.ways).enumerate() {
            if order.stop.is_raised() {
                return Err(Error::other(format!("launching {}", place(candidate)))
                    .caused_by("the launch is being given up"));
            }
            // A quota counts for the whole region: its other zones would answer the same.
            let exhausted = tried.iter().any(|tried| {
                tried.refusal.meaning() == Meaning::Quota
                    && tried.candidate.region == candidate.region
                    && tried.candidate.instance_type == candidate.instance_type
                    && tried.candidate.spot == candidate.spot
            });
            if exhausted {
                continue;
            }
            let region = candidate.region.as_str();
            let group = match groups.get(region) {
                Some(group) => group.clone(),
                None => {
                    let group = self.group(region).await?;
                    groups.insert(region, group.clone());
                    group
                }
            };
            tracing::info!("launching {}", place(candidate));
            match self.run(order, index, candidate, way, &group).await {
                Ok(instance) => return Ok(instance),
                Err(Failure::Refused(refusal))
                    if matches!(refusal.meaning(), Meaning::ZoneCapacity | Meaning::Quota) =>
                {
                    tracing::info!("{}: {refusal}", place(candidate));
                    tried.push(Tried { candidate, refusal });
                }
                // Without an answer there may be an instance: no other way may be tried.
                Err(failure) => {
                    let doing = format!("launching {}", place(candidate));
                    return Err(self.client.error(region, doing, failure).await);
                }
            }
        }
        Err(all_refused(tried))
    }

    async fn group(&self, region: &str) -> Result<String> {
        let network = self
            .networks
            .get(region)
            .ok_or_else(|| Error::other(format!("the network of {region} is unknown")))?;
        network::ensure_group(&self.client, region, &network.vpc, &network.group).await
    }

    async fn run(
        &self,
        order: &Order,
        index: usize,
        candidate: &Candidate,
        way: &Way,
        group: &str,
    ) -> Result<Instance, Failure> {
        let query = run_query(&self.asked, order, index, candidate, way, group);
        let mut tries = super::settling();
        let reservation: Reservation = loop {
            match self.client.call(&candidate.region, &query).await {
                Err(failure) if network::is_new_group(&failure) && tries.wait().await => {}
                answer => break answer?,
            }
        };
        let item = reservation.instances_set.items.into_iter().next();
        let item = item.ok_or_else(|| Error::other("EC2 answered without an instance"))?;
        let instance = item.instance(&candidate.region);
        Ok(Instance {
            name: Some(order.name.clone()),
            zone: instance.zone.or_else(|| candidate.zone.clone()),
            // The group is told per interface here, and not always for the whole.
            security_group: Some(group.to_owned()),
            subnet: instance.subnet.or_else(|| candidate.network.clone()),
            disk_gb: Some(candidate.disk_gb),
            spot: candidate.spot,
            // There is no public address yet, and the private one would mislead.
            ip: None,
            ..instance
        })
    }
}

/// Idempotent by its client token, which is the order's and the way's.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html>
fn run_query(
    asked: &Asked,
    order: &Order,
    index: usize,
    candidate: &Candidate,
    way: &Way,
    group: &str,
) -> Query {
    // The number stands first, so that it isn't what the limit cuts off.
    let token = format!("{index}-{}", order.launch_id);
    let token: String = token
        .chars()
        .filter(char::is_ascii)
        .take(CLIENT_TOKEN_LIMIT)
        .collect();
    let mut query = Query::ec2("RunInstances")
        .set("ClientToken", token)
        .set("MinCount", "1")
        .set("MaxCount", "1")
        .set("ImageId", &candidate.image)
        .set("InstanceType", &candidate.instance_type)
        .set("InstanceInitiatedShutdownBehavior", "terminate")
        .set("UserData", BASE64_STANDARD.encode(&order.user_data))
        .set("MetadataOptions.HttpEndpoint", "enabled")
        .set("MetadataOptions.HttpTokens", "required")
        // Two hops: a job's containers may use the instance's role.
        .set("MetadataOptions.HttpPutResponseHopLimit", "2")
        .set("BlockDeviceMapping.1.DeviceName", &way.root_device)
        .set(
            "BlockDeviceMapping.1.Ebs.VolumeSize",
            candidate.disk_gb.to_string(),
        )
        .set("BlockDeviceMapping.1.Ebs.VolumeType", "gp3")
        .set("BlockDeviceMapping.1.Ebs.Encrypted", "true")
        .set("BlockDeviceMapping.1.Ebs.DeleteOnTermination", "true")
        .set("NetworkInterface.1.DeviceIndex", "0")
        .set("NetworkInterface.1.DeleteOnTermination", "true")
        .set("NetworkInterface.1.SecurityGroupId.1", group);
    if let Some(subnet) = &candidate.network {
        query = query.set("NetworkInterface.1.SubnetId", subnet);
    }
    if way.public_ip {
        query = query.set("NetworkInterface.1.AssociatePublicIpAddress", "true");
    }
    match &asked.profile {
        Some(arn) if arn.starts_with("arn:") => query = query.set("IamInstanceProfile.Arn", arn),
        Some(name) => query = query.set("IamInstanceProfile.Name", name),
        None => {}
    }
    let mut tagged = vec!["instance", "volume", "network-interface"];
    if let Some(spot) = asked.spot.as_ref().filter(|_| candidate.spot) {
        tagged.push("spot-instances-request");
        query = query
            .set("InstanceMarketOptions.MarketType", "spot")
            .set(
                "InstanceMarketOptions.SpotOptions.SpotInstanceType",
                "one-time",
            )
            .set(
                "InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior",
                "terminate",
            );
        if let Some(price) = &spot.max_price {
            query = query.set("InstanceMarketOptions.SpotOptions.MaxPrice", price);
        }
    }
    let ours = [
        (TAG_NAME, order.name.as_str()),
        (TAG_OWNER, env!("CARGO_PKG_VERSION")),
        (TAG_LAUNCH, order.launch_id.as_str()),
        (TAG_SERVES, order.serves.as_str()),
    ];
    let users = asked
        .tags
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    let tags: Vec<(&str, &str)> = ours.into_iter().chain(users).collect();
    for (number, resource) in tagged.iter().enumerate() {
        let specification = format!("TagSpecification.{}", number + 1);
        query = query.set(format!("{specification}.ResourceType"), *resource);
        for (number, (key, value)) in tags.iter().enumerate() {
            query = query
                .set(format!("{specification}.Tag.{}.Key", number + 1), *key)
                .set(format!("{specification}.Tag.{}.Value", number + 1), *value);
        }
    }
    query
}

fn place(candidate: &Candidate) -> String {
    let market = if candidate.spot { " (spot)" } else { "" };
    let place = candidate.zone.as_ref().unwrap_or(&candidate.region);
    format!("{}{market} in {place}", candidate.instance_type)
}

/// The error that tells everything that was tried, and what can be done about it.
fn all_refused(tried: Vec<Tried<'_>>) -> Error {
    let told = tried.into_iter().map(|Tried { candidate, refusal }| {
        let place = place(candidate);
        let quota = (refusal.meaning() == Meaning::Quota).then(|| {
            format!(
                "raise the quota \"{}\" of {} in Service Quotas, or choose another type or region",
                sizes::quota(&candidate.instance_type, candidate.spot),
                candidate.region
            )
        });
        let successor = sizes::successor(&candidate.instance_type).map(str::to_owned);
        Refused {
            said: refusal.to_string(),
            error: refusal.during(format!("launching {place}")),
            hints: quota.into_iter().chain(successor).collect(),
            place,
        }
    });
    told::all_refused(told.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::Arch;
    use crate::cloud::aws::asked::tests::spec;
    use crate::cloud::aws::client::Service;
    use crate::error::Kind;
    use crate::spec::Spot;

    fn candidate(instance_type: &str, zone: &str, spot: bool) -> Candidate {
        Candidate {
            region: "us-west-1".into(),
            zone: Some(zone.into()),
            instance_type: instance_type.into(),
            arch: Arch::X86_64,
            image: "ami-1".into(),
            image_name: None,
            disk_gb: 35,
            spot,
            network: Some("subnet-1".into()),
            security_group: None,
        }
    }

    fn refusal(code: &str) -> Refusal {
        Refusal {
            service: Service::Ec2,
            code: code.into(),
            message: "words".into(),
            encoded: None,
            failed: false,
        }
    }

    fn order(launch_id: &str) -> Order {
        Order {
            launch_id: launch_id.into(),
            ..Order::example()
        }
    }

    #[test]
    fn a_request_says_everything_that_is_promised() {
        let mut spec = spec();
        spec.spot = Some(Spot {
            max_price: Some("0.25".into()),
            fallback: true,
        });
        spec.metadata = vec![("team".into(), "ml".into())];
        spec.permission_set = Some("arn:aws:iam::123456789012:instance-profile/p".into());
        let asked = Asked::read(&spec).unwrap();
        let way = Way {
            root_device: "/dev/sda1".into(),
            public_ip: true,
        };
        let spot = candidate("m5.2xlarge", "us-west-1a", true);
        let query = run_query(&asked, &order("abc"), 3, &spot, &way, "sg-1");
        let expected = [
            ("ClientToken", "3-abc"),
            ("MinCount", "1"),
            ("MaxCount", "1"),
            ("InstanceInitiatedShutdownBehavior", "terminate"),
            ("UserData", "IyEvYmluL3NoCg=="),
            ("MetadataOptions.HttpTokens", "required"),
            ("MetadataOptions.HttpPutResponseHopLimit", "2"),
            ("BlockDeviceMapping.1.DeviceName", "/dev/sda1"),
            ("BlockDeviceMapping.1.Ebs.Encrypted", "true"),
            ("BlockDeviceMapping.1.Ebs.DeleteOnTermination", "true"),
            ("NetworkInterface.1.SubnetId", "subnet-1"),
            ("NetworkInterface.1.SecurityGroupId.1", "sg-1"),
            ("NetworkInterface.1.AssociatePublicIpAddress", "true"),
            (
                "InstanceMarketOptions.SpotOptions.SpotInstanceType",
                "one-time",
            ),
            ("InstanceMarketOptions.SpotOptions.MaxPrice", "0.25"),
            (
                "IamInstanceProfile.Arn",
                "arn:aws:iam::123456789012:instance-profile/p",
            ),
            ("TagSpecification.2.ResourceType", "volume"),
            ("TagSpecification.4.ResourceType", "spot-instances-request"),
            ("TagSpecification.4.Tag.1.Value", "cml-x"),
            ("TagSpecification.4.Tag.3.Value", "abc"),
            (
                "TagSpecification.4.Tag.4.Value",
                "https://github.com/org/repo",
            ),
            ("TagSpecification.4.Tag.5.Key", "team"),
        ];
        for (name, value) in expected {
            assert_eq!(query.get(name), Some(value), "{name}");
        }
        assert_eq!(query.get("KeyName"), None);
        let demand = candidate("m5.2xlarge", "us-west-1a", false);
        let way = Way {
            public_ip: false,
            ..way
        };
        let query = run_query(&asked, &order("abc"), 0, &demand, &way, "sg-1");
        assert_eq!(query.get("InstanceMarketOptions.MarketType"), None);
        assert_eq!(query.get("TagSpecification.4.ResourceType"), None);
        assert_eq!(
            query.get("NetworkInterface.1.AssociatePublicIpAddress"),
            None
        );
    }

    #[test]
    fn client_tokens_differ_by_way_and_stay_short() {
        let asked = Asked::read(&spec()).unwrap();
        let way = Way {
            root_device: "/dev/sda1".into(),
            public_ip: true,
        };
        let candidate = candidate("m5.2xlarge", "us-west-1a", false);
        let token = |index| {
            let query = run_query(
                &asked,
                &order(&"é1".repeat(99)),
                index,
                &candidate,
                &way,
                "sg",
            );
            query.get("ClientToken").unwrap().to_owned()
        };
        assert_ne!(token(1), token(11));
        assert!(token(11).is_ascii() && token(11).len() <= 64);
    }

    #[test]
    fn one_refusal_is_told_plainly() {
        let only = candidate("p3.2xlarge", "us-west-1a", false);
        let refusal = refusal("InsufficientInstanceCapacity");
        let error = all_refused(vec![Tried {
            candidate: &only,
            refusal,
        }]);
        assert_eq!(error.kind(), Kind::Capacity);
        assert_eq!(
            error.chain(),
            "launching p3.2xlarge in us-west-1a: EC2 answered InsufficientInstanceCapacity: words"
        );
        assert!(
            error.hints().iter().any(|hint| hint.contains("g5.xlarge")),
            "{:?}",
            error.hints()
        );
    }

    #[test]
    fn several_refusals_are_all_told() {
        let spot = candidate("m5.large", "us-west-1a", true);
        let demand = candidate("m5.large", "us-west-1c", false);
        let error = all_refused(vec![
            Tried {
                candidate: &spot,
                refusal: refusal("SpotMaxPriceTooLow"),
            },
            Tried {
                candidate: &demand,
                refusal: refusal("VcpuLimitExceeded"),
            },
        ]);
        let text = error.chain();
        assert!(
            text.contains("m5.large (spot) in us-west-1a: EC2 answered SpotMaxPriceTooLow"),
            "{text}"
        );
        assert!(
            text.contains("m5.large in us-west-1c: EC2 answered VcpuLimitExceeded"),
            "{text}"
        );
        let hints = error.hints().join("\n");
        assert!(
            hints.contains("--cloud-spot-price") && hints.contains("Running On-Demand Standard")
        );
    }
}
