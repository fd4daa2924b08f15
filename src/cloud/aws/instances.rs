//! Instances that exist: their state, their console, their end.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde::Deserialize;

use super::asked::TAG_NAME;
use super::client::{Client, Failure, Query};
use super::refusal::Meaning;
use super::xml::{Nothing, Set, filled};
use crate::cloud::told;
use crate::cloud::{Instance, InstanceRef, InstanceState, TAG_LAUNCH, TAG_OWNER, TAG_SERVES};
use crate::error::{Error, Result};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    reservation_set: Set<Reservation>,
    next_token: Option<String>,
}

/// One call's instances; RunInstances answers with one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reservation {
    #[serde(default)]
    pub(super) instances_set: Set<Item>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Item {
    instance_id: String,
    #[serde(default)]
    image_id: String,
    instance_state: State,
    #[serde(default)]
    instance_type: String,
    launch_time: Option<String>,
    placement: Option<Placement>,
    private_ip_address: Option<String>,
    ip_address: Option<String>,
    subnet_id: Option<String>,
    instance_lifecycle: Option<String>,
    state_reason: Option<Reason>,
    #[serde(default)]
    group_set: Set<GroupItem>,
    #[serde(default)]
    network_interface_set: Set<Interface>,
    #[serde(default)]
    tag_set: Set<Tag>,
}

#[derive(Debug, Deserialize)]
struct State {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Placement {
    availability_zone: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Reason {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupItem {
    group_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Interface {
    #[serde(default)]
    group_set: Set<GroupItem>,
}

#[derive(Debug, Deserialize)]
struct Tag {
    key: String,
    #[serde(default)]
    value: String,
}

impl Item {
    pub(super) fn instance(self, region: &str) -> Instance {
        let state = match self.instance_state.name.as_str() {
            "pending" => InstanceState::Pending,
            "running" => InstanceState::Running,
            "shutting-down" => InstanceState::Ending,
            "terminated" => InstanceState::Gone,
            // An instance that stops ends stopped, and its disk goes on costing.
            _ => InstanceState::Stopped,
        };
        let reason = self.state_reason.filter(|reason| {
            let ended = !matches!(state, InstanceState::Pending | InstanceState::Running);
            ended && !(reason.code.is_empty() && reason.message.is_empty())
        });
        let of_interfaces = self
            .network_interface_set
            .items
            .into_iter()
            .map(|known| known.group_set);
        let mut groups = std::iter::once(self.group_set)
            .chain(of_interfaces)
            .flat_map(|groups| groups.items);
        let tags = &self.tag_set.items;
        let tagged = |key: &str| {
            let tag = tags.iter().find(|tag| tag.key == key)?;
            Some(tag.value.clone())
        };
        let (name, serves) = (tagged(TAG_NAME), tagged(TAG_SERVES));
        let is_ours = tagged(TAG_OWNER).is_some() && tagged(TAG_LAUNCH).is_some();
        Instance {
            reference: InstanceRef {
                id: self.instance_id,
                region: region.to_owned(),
            },
            name,
            is_ours,
            serves,
            state,
            zone: self
                .placement
                .and_then(|placement| filled(placement.availability_zone)),
            instance_type: self.instance_type,
            ip: filled(self.ip_address).or(filled(self.private_ip_address)),
            spot: self.instance_lifecycle.as_deref() == Some("spot"),
            launch_time: self
                .launch_time
                .and_then(|time| time.parse::<Timestamp>().ok()),
            image: self.image_id,
            disk_gb: None,
            security_group: groups.next().map(|group| group.group_id),
            subnet: filled(self.subnet_id),
            reason: reason.map(|reason| match reason.message.starts_with(&reason.code) {
                true => reason.message,
                false if reason.message.is_empty() => reason.code,
                false => format!("{}: {}", reason.code, reason.message),
            }),
        }
    }
}

fn is_missing(failure: &Failure) -> bool {
    match failure {
        Failure::Refused(refusal) => refusal.meaning() == Meaning::Missing,
        Failure::Broken(_) => false,
    }
}

/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html>
pub(super) async fn inspect(client: &Client, instance: &InstanceRef) -> Result<Option<Instance>> {
    let InstanceRef { id, region } = instance;
    let query = Query::ec2("DescribeInstances").list("InstanceId", [id.as_str()]);
    match client.call::<Answer>(region, &query).await {
        Ok(answer) => {
            let mut items = answer
                .reservation_set
                .items
                .into_iter()
                .flat_map(|r| r.instances_set.items);
            Ok(items.next().map(|item| item.instance(region)))
        }
        Err(failure) if is_missing(&failure) => Ok(None),
        Err(failure) => Err(client
            .error(
                region,
                format!("looking at the instance {id} in {region}"),
                failure,
            )
            .await),
    }
}

pub(super) async fn list(
    client: &Client,
    region: &str,
    launch_id: Option<&str>,
) -> Result<Vec<Instance>> {
    let query = Query::ec2("DescribeInstances");
    let query = match launch_id {
        Some(id) => query.filter(&format!("tag:{TAG_LAUNCH}"), [id]),
        None => query.filter("tag-key", [TAG_OWNER]),
    };
    let query = query.filter(
        "instance-state-name",
        ["pending", "running", "shutting-down", "stopping", "stopped"],
    );
    let mut found = Vec::new();
    let mut page = query.clone();
    loop {
        let answer: Answer = match client.call(region, &page).await {
            Ok(answer) => answer,
            Err(failure) => {
                return Err(client
                    .error(region, format!("listing instances in {region}"), failure)
                    .await);
            }
        };
        let items = answer
            .reservation_set
            .items
            .into_iter()
            .flat_map(|r| r.instances_set.items);
        let items = items.map(|item| item.instance(region));
        // The name of a launch is ours alone; one tag may be anybody's.
        found.extend(items.filter(|instance| launch_id.is_some() || instance.is_ours));
        match filled(answer.next_token) {
            Some(token) => page = query.clone().set("NextToken", token),
            None => return Ok(found),
        }
    }
}

/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html>
pub(super) async fn console(client: &Client, instance: &InstanceRef) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Answer {
        output: Option<String>,
    }
    let InstanceRef { id, region } = instance;
    let query = Query::ec2("GetConsoleOutput").set("InstanceId", id);
    // Only Nitro types show what is on the console now; others show what was there after boot.
    let latest = client
        .call::<Answer>(region, &query.clone().set("Latest", "true"))
        .await;
    let answer = match latest {
        Err(Failure::Refused(refusal)) if refusal.meaning() == Meaning::Other => {
            client.call(region, &query).await
        }
        answer => answer,
    };
    match answer {
        Ok(answer) => Ok(answer.output.and_then(|output| decoded(&output))),
        Err(Failure::Refused(refusal)) => {
            tracing::debug!("reading the console of {id}: {refusal}");
            Ok(None)
        }
        Err(failure @ Failure::Broken(_)) => {
            Err(failure.during(format!("reading the console of {id} in {region}")))
        }
    }
}

/// A console as text, without what terminals eat.
fn decoded(output: &str) -> Option<String> {
    let packed: String = output.split_ascii_whitespace().collect();
    let bytes = BASE64_STANDARD.decode(packed).ok()?;
    told::console(&String::from_utf8_lossy(&bytes))
}

/// Idempotent by itself: an instance can be terminated any number of times.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_TerminateInstances.html>
pub(super) async fn destroy(client: &Client, instance: &InstanceRef) -> Result<()> {
    let InstanceRef { id, region } = instance;
    let query = Query::ec2("TerminateInstances").list("InstanceId", [id.as_str()]);
    let mut tries = super::settling();
    loop {
        let failure = match client.call::<Nothing>(region, &query).await {
            Ok(_) => return Ok(()),
            Err(failure) => failure,
        };
        // Just made, it may not be known yet; and only after a while is "unknown" "gone".
        let missing = is_missing(&failure);
        let unsettled = missing || failure.code() == Some("IncorrectInstanceState");
        if unsettled && tries.wait().await {
            continue;
        }
        if missing {
            return Ok(());
        }
        let doing = format!("terminating the instance {id} in {region}");
        let error: Error = client.error(region, doing, failure).await;
        return Err(error.hint(format!(
            "make sure that {id} in {region} ends: it costs money"
        )));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The API reference's example, shortened to what we read and its neighbours.
    const PUBLISHED: &str = r#"<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
      <requestId>8f7724cf-496f-496e-8fe3-example</requestId>
      <reservationSet>
        <item>
          <reservationId>r-1234567890abcdef0</reservationId>
          <ownerId>123456789012</ownerId>
          <groupSet/>
          <instancesSet>
            <item>
              <instanceId>i-1234567890abcdef0</instanceId>
              <imageId>ami-bff32ccc</imageId>
              <instanceState><code>16</code><name>running</name></instanceState>
              <privateDnsName>ip-192-168-1-88.eu-west-1.compute.internal</privateDnsName>
              <dnsName>ec2-54-194-252-215.eu-west-1.compute.amazonaws.com</dnsName>
              <reason/>
              <keyName>my_keypair</keyName>
              <amiLaunchIndex>0</amiLaunchIndex>
              <productCodes/>
              <instanceType>t2.micro</instanceType>
              <launchTime>2018-05-08T16:46:19.000Z</launchTime>
              <placement>
                <availabilityZone>eu-west-1c</availabilityZone>
                <groupName/>
                <tenancy>default</tenancy>
              </placement>
              <monitoring><state>disabled</state></monitoring>
              <subnetId>subnet-56f5f633</subnetId>
              <vpcId>vpc-11112222</vpcId>
              <privateIpAddress>192.168.1.88</privateIpAddress>
              <ipAddress>54.194.252.215</ipAddress>
              <sourceDestCheck>true</sourceDestCheck>
              <groupSet>
                <item><groupId>sg-e4076980</groupId><groupName>SecurityGroup1</groupName></item>
              </groupSet>
              <architecture>x86_64</architecture>
              <rootDeviceType>ebs</rootDeviceType>
              <rootDeviceName>/dev/xvda</rootDeviceName>
              <instanceLifecycle>spot</instanceLifecycle>
              <clientToken>xMcwG14507example</clientToken>
              <tagSet><item><key>Name</key><value>Server_1</value></item></tagSet>
              <hypervisor>xen</hypervisor>
            </item>
          </instancesSet>
        </item>
      </reservationSet>
      <nextToken/>
    </DescribeInstancesResponse>"#;

    fn read(xml: &str) -> Instance {
        let answer: Answer = quick_xml::de::from_str(xml).unwrap();
        assert_eq!(filled(answer.next_token), None);
        let mut items = answer
            .reservation_set
            .items
            .into_iter()
            .flat_map(|r| r.instances_set.items);
        items.next().unwrap().instance("eu-west-1")
    }

    #[test]
    fn a_published_answer_is_read() {
        let instance = read(PUBLISHED);
        assert_eq!(instance.reference.id, "i-1234567890abcdef0");
        assert_eq!(instance.state, InstanceState::Running);
        assert_eq!(instance.name.as_deref(), Some("Server_1"));
        assert_eq!(instance.zone.as_deref(), Some("eu-west-1c"));
        assert_eq!(instance.ip.as_deref(), Some("54.194.252.215"));
        assert_eq!(instance.security_group.as_deref(), Some("sg-e4076980"));
        assert_eq!(
            instance.launch_time.unwrap().to_string(),
            "2018-05-08T16:46:19Z"
        );
        assert!(instance.spot);
        assert_eq!(instance.reason, None);
    }

    #[test]
    fn states_and_reasons_are_told() {
        let state = |name: &str| read(&PUBLISHED.replace(">running<", &format!(">{name}<"))).state;
        assert_eq!(state("pending"), InstanceState::Pending);
        assert_eq!(state("shutting-down"), InstanceState::Ending);
        assert_eq!(state("stopping"), InstanceState::Stopped);
        assert_eq!(state("stopped"), InstanceState::Stopped);
        assert_eq!(state("terminated"), InstanceState::Gone);
        let ended = PUBLISHED.replace(">running<", ">terminated<").replace(
            "<reason/>",
            "<stateReason><code>Server.SpotInstanceTermination</code><message>Server.SpotInstanceTermination: \
             Spot instance termination</message></stateReason>",
        );
        assert_eq!(
            read(&ended).reason.as_deref(),
            Some("Server.SpotInstanceTermination: Spot instance termination")
        );
        let private = PUBLISHED.replace("<ipAddress>54.194.252.215</ipAddress>", "");
        assert_eq!(read(&private).ip.as_deref(), Some("192.168.1.88"));
    }

    #[test]
    fn a_console_is_text_without_colours() {
        let text: String = (1..=3)
            .map(|n| format!("\u{1b}[1;32mline\u{1b}[0m {n}\r\n"))
            .collect();
        let shown = decoded(&BASE64_STANDARD.encode(text)).unwrap();
        assert_eq!(shown, "line 1\nline 2\nline 3");
        assert_eq!(decoded(""), None);
        assert_eq!(decoded("not base64!"), None);
    }
}
