//! What a scripted server says that is EC2.

use crate::cloud::aws::Aws;
use crate::cloud::scripted;
pub(super) use crate::cloud::scripted::Seen;

impl Seen {
    /// The action of a query, or the method and path.
    pub(in crate::cloud::aws) fn what(&self) -> String {
        self.param("Action").unwrap_or_else(|| self.line.clone())
    }
}

/// Status and body; `None` cuts the connection.
pub(super) type Answer = Option<(u16, String)>;

impl From<Answer> for scripted::Answer<Aws> {
    fn from(answer: Answer) -> Self {
        answer.map_or_else(Self::cut, |(status, body)| Self::new(status, body))
    }
}

/// The server.
pub(super) type Server = scripted::Server<Aws>;

impl scripted::Kinds for Aws {
    fn kind(seen: &Seen) -> String {
        seen.what()
    }
}

/// EC2's error document.
pub(super) fn refusal(code: &str) -> Answer {
    refusal_saying(code, "words")
}

pub(super) fn refusal_saying(code: &str, message: &str) -> Answer {
    let status = match code {
        "InsufficientInstanceCapacity" => 500,
        _ => 400,
    };
    let body = format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
         <RequestID>r</RequestID></Response>"
    );
    Some((status, body))
}

/// What an account answers in which all is well: one region, two zones, a group.
pub(super) fn healthy(seen: &Seen) -> Answer {
    let subnet = |zone: &str| {
        format!(
            "<item><subnetId>subnet-{zone}</subnetId><vpcId>vpc-1</vpcId>\
             <availabilityZone>us-west-1{zone}</availabilityZone></item>"
        )
    };
    let offering = |zone: &str| {
        format!(
            "<item><instanceType>m5.2xlarge</instanceType><location>us-west-1{zone}</location></item>"
        )
    };
    let body = match seen.what().as_str() {
        "DescribeImages" => format!(
            "<imagesSet><item><imageId>ami-1</imageId><name>{}</name><architecture>x86_64\
             </architecture><rootDeviceName>/dev/sda1</rootDeviceName></item></imagesSet>",
            super::images::tests::NOBLE
        ),
        "DescribeInstanceTypes" => "<instanceTypeSet><item><instanceType>m5.2xlarge</instanceType>\
             </item></instanceTypeSet>"
            .to_owned(),
        "DescribeInstanceTypeOfferings" => format!(
            "<instanceTypeOfferingSet>{}{}</instanceTypeOfferingSet>",
            offering("a"),
            offering("c")
        ),
        "DescribeSubnets" => format!("<subnetSet>{}{}</subnetSet>", subnet("a"), subnet("c")),
        "DescribeVpcs" => "<vpcSet><item><vpcId>vpc-1</vpcId></item></vpcSet>".to_owned(),
        "DescribeSecurityGroups" => "<securityGroupInfo><item><groupId>sg-1</groupId>\
             <vpcId>vpc-1</vpcId></item></securityGroupInfo>"
            .to_owned(),
        "CreateSecurityGroup" => "<groupId>sg-2</groupId>".to_owned(),
        "RunInstances" => instances("i-1"),
        "AuthorizeSecurityGroupIngress" | "TerminateInstances" => {
            "<return>true</return>".to_owned()
        }
        _ => return Some((404, String::new())),
    };
    Some((200, format!("<Answer>{body}</Answer>")))
}

/// One pending instance.
pub(super) fn instances(id: &str) -> String {
    format!(
        "<instancesSet><item><instanceId>{id}</instanceId><instanceState><name>pending</name>\
         </instanceState></item></instancesSet>"
    )
}
