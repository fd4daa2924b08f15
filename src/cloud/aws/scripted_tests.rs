//! What is sent, in which order, and what follows from each answer.

use super::*;
use crate::cloud::aws::asked::tests::spec;
use crate::cloud::aws::scripted::{
    Answer, Seen, Server, healthy, instances, refusal, refusal_saying,
};
use crate::cloud::{Notice, Order};
use crate::error::Kind;
use crate::http::maybe_done;
use crate::spec::{Cidr, Spot, Ssh};

fn cloud(server: &Server, more: &[(&str, &str)]) -> Aws {
    let keys = [
        ("AWS_ACCESS_KEY_ID", "AKID"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let endpoint = ("AWS_ENDPOINT_URL", server.url.as_str());
    let env: Vec<(&str, &str)> = match more.is_empty() {
        true => keys.into_iter().chain([endpoint]).collect(),
        false => more.iter().copied().chain([endpoint]).collect(),
    };
    let host = Host::fixed(env);
    let http = Http::new(&host).unwrap();
    Aws::new(host, http)
}

async fn launch(server: &Server, spec: &InstanceSpec) -> Result<Instance> {
    let plan = cloud(server, &[]).look(spec).await?;
    plan.create(&Order::example()).await
}

/// All is well but what `script` says.
async fn server(script: impl Fn(&Seen, usize) -> Option<Answer> + Send + Sync + 'static) -> Server {
    Server::start(move |seen, before| script(seen, before).unwrap_or_else(|| healthy(seen))).await
}

#[tokio::test]
async fn a_warm_launch_is_one_wave_of_reads_and_one_call() {
    let server = server(|_, _| None).await;
    let cloud = cloud(&server, &[]);
    let plan = cloud.look(&spec()).await.unwrap();
    let mut wave = server.order();
    wave.sort();
    assert_eq!(
        wave,
        [
            "DescribeImages",
            "DescribeInstanceTypeOfferings",
            "DescribeInstanceTypes",
            "DescribeSecurityGroups",
            "DescribeSubnets",
            "DescribeVpcs",
        ]
    );
    let instance = plan.create(&Order::example()).await.unwrap();
    assert_eq!(server.order().len(), wave.len() + 1);
    assert_eq!(instance.reference.id, "i-1");
    assert_eq!(instance.zone.as_deref(), Some("us-west-1a"));
    assert_eq!(instance.security_group.as_deref(), Some("sg-1"));
    // The same order again makes no second one.
    let again = plan.create(&Order::example()).await.unwrap();
    assert_eq!(again.reference, instance.reference);
    assert_eq!(server.all("RunInstances").len(), 1);
}

#[tokio::test]
async fn lack_of_capacity_leads_to_the_next_zone_and_a_quota_past_the_region() {
    let server = server(|seen, before| match (seen.what().as_str(), before) {
        ("RunInstances", 0) => Some(refusal("MaxSpotInstanceCountExceeded")),
        ("RunInstances", 1) => Some(refusal("InsufficientInstanceCapacity")),
        _ => None,
    })
    .await;
    let mut spec = spec();
    spec.spot = Some(Spot {
        max_price: None,
        fallback: true,
    });
    let instance = launch(&server, &spec).await.unwrap();
    let tried: Vec<(String, bool)> = server
        .all("RunInstances")
        .iter()
        .map(|seen| {
            let subnet = seen.param("NetworkInterface.1.SubnetId").unwrap();
            (
                subnet,
                seen.param("InstanceMarketOptions.MarketType").is_some(),
            )
        })
        .collect();
    let expected = [("subnet-a", true), ("subnet-a", false), ("subnet-c", false)];
    assert_eq!(
        tried,
        expected.map(|(subnet, spot)| (subnet.to_owned(), spot))
    );
    assert!(!instance.spot);
    let mut tokens: Vec<_> = server
        .all("RunInstances")
        .iter()
        .map(|seen| seen.param("ClientToken"))
        .collect();
    tokens.dedup();
    assert_eq!(tokens.len(), 3);
}

#[tokio::test]
async fn when_nothing_has_capacity_everything_tried_is_told() {
    let server = server(|seen, _| {
        (seen.what() == "RunInstances").then(|| refusal("InsufficientInstanceCapacity"))
    })
    .await;
    let error = launch(&server, &spec()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Capacity);
    let text = error.chain();
    assert!(
        text.contains("us-west-1a") && text.contains("us-west-1c"),
        "{text}"
    );
    assert_eq!(
        server.all("RunInstances").len(),
        2,
        "status 500 isn't tried again in a zone"
    );
}

#[tokio::test]
async fn after_an_unanswered_call_no_other_way_is_tried() {
    let server = server(|seen, _| (seen.what() == "RunInstances").then_some(None)).await;
    let error = launch(&server, &spec()).await.unwrap_err();
    assert!(maybe_done(&error), "{}", error.chain());
    let tokens: Vec<_> = server
        .all("RunInstances")
        .iter()
        .map(|seen| seen.param("ClientToken"))
        .collect();
    assert!(tokens.len() > 1);
    assert!(tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
}

#[tokio::test]
async fn nothing_is_made_once_the_launch_is_given_up() {
    let server = server(|_, _| None).await;
    let plan = cloud(&server, &[]).look(&spec()).await.unwrap();
    let order = Order::example();
    order.stop.raise();
    plan.create(&order).await.unwrap_err();
    assert_eq!(server.all("RunInstances").len(), 0);
}

#[tokio::test]
async fn a_race_for_the_shared_group_ends_well() {
    let server = server(|seen, before| match (seen.what().as_str(), before) {
        ("DescribeSecurityGroups", 0) => {
            Some(Some((200, "<A><securityGroupInfo/></A>".to_owned())))
        }
        ("CreateSecurityGroup", _) => Some(refusal("InvalidGroup.Duplicate")),
        ("AuthorizeSecurityGroupIngress", 0) => Some(refusal("InvalidGroup.NotFound")),
        ("AuthorizeSecurityGroupIngress", _) => Some(refusal("InvalidPermission.Duplicate")),
        ("RunInstances", 0) => Some(refusal("InvalidGroup.NotFound")),
        _ => None,
    })
    .await;
    let mut spec = spec();
    let cidrs = Cidr::anywhere();
    spec.ssh = Some(Ssh {
        authorized_key: None,
        cidrs,
    });
    let instance = launch(&server, &spec).await.unwrap();
    assert_eq!(instance.security_group.as_deref(), Some("sg-1"));
    let rule = &server.all("AuthorizeSecurityGroupIngress")[0];
    assert_eq!(
        rule.param("IpPermissions.1.IpRanges.1.CidrIp").as_deref(),
        Some("0.0.0.0/0")
    );
    assert_eq!(
        rule.param("IpPermissions.1.Ipv6Ranges.1.CidrIpv6")
            .as_deref(),
        Some("::/0")
    );
}

#[tokio::test]
async fn a_denial_is_decoded() {
    let server = server(|seen, _| match seen.what().as_str() {
        "RunInstances" => Some(refusal_saying(
            "UnauthorizedOperation",
            "You may not. Encoded authorization failure message: abc",
        )),
        "DecodeAuthorizationMessage" => {
            assert_eq!(seen.param("EncodedMessage").as_deref(), Some("abc"));
            let json = "{&quot;context&quot;:{&quot;action&quot;:&quot;iam:PassRole&quot;,\
                        &quot;resource&quot;:&quot;arn:r&quot;}}";
            Some(Some((
                200,
                format!(
                    "<A><DecodeAuthorizationMessageResult><DecodedMessage>{json}</DecodedMessage>\
                     </DecodeAuthorizationMessageResult></A>"
                ),
            )))
        }
        _ => None,
    })
    .await;
    let error = launch(&server, &spec()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert_eq!(
        error.chain(),
        "launching m5.2xlarge in us-west-1a: EC2 answered UnauthorizedOperation: You may not."
    );
    assert_eq!(
        error.hints(),
        ["allow iam:PassRole on arn:r to these credentials"]
    );
}

#[tokio::test]
async fn an_instance_is_gone_only_when_it_stays_unknown() {
    let server = server(|seen, before| match (seen.what().as_str(), before) {
        ("TerminateInstances", 0 | 1) => Some(refusal("InvalidInstanceID.NotFound")),
        _ => None,
    })
    .await;
    let instance = InstanceRef {
        id: "i-1".into(),
        region: "us-west-1".into(),
    };
    cloud(&server, &[]).destroy(&instance).await.unwrap();
    assert_eq!(server.all("TerminateInstances").len(), 3);
}

#[tokio::test]
async fn lists_are_read_to_their_last_page() {
    let server = server(|seen, before| {
        let page = |body: String, token: &str| {
            let body = format!(
                "<A><reservationSet><item>{body}</item></reservationSet><nextToken>{token}\
                 </nextToken></A>"
            );
            Some(Some((200, body)))
        };
        match before {
            0 => page(instances("i-1"), "two"),
            _ => {
                assert_eq!(seen.param("NextToken").as_deref(), Some("two"));
                page(instances("i-2"), "")
            }
        }
    })
    .await;
    let found = cloud(&server, &[])
        .list("us-west", Some("launch"))
        .await
        .unwrap();
    let ids: Vec<&str> = found
        .iter()
        .map(|instance| instance.reference.id.as_str())
        .collect();
    assert_eq!(ids, ["i-1", "i-2"]);
    let first = &server.seen()[0];
    assert_eq!(
        first.param("Filter.1.Name").as_deref(),
        Some("tag:runner-launch-id")
    );
    assert!(
        first.head.contains("/us-west-1/ec2/aws4_request"),
        "{}",
        first.head
    );
}

#[tokio::test]
async fn a_console_is_read_the_old_way_where_the_new_one_is_unsupported() {
    let server = server(|seen, _| match seen.param("Latest") {
        Some(_) => Some(refusal("UnsupportedOperation")),
        None => Some(Some((200, "<A><output>aGVsbG8=\n</output></A>".to_owned()))),
    })
    .await;
    let instance = InstanceRef {
        id: "i-1".into(),
        region: "us-west-1".into(),
    };
    let console = cloud(&server, &[]).console(&instance).await.unwrap();
    assert_eq!(console.as_deref(), Some("hello"));
    assert_eq!(server.all("GetConsoleOutput").len(), 2);
}

#[tokio::test]
async fn a_web_identity_is_exchanged_once_for_the_whole_wave() {
    let server = server(|seen, _| {
        (seen.what() == "AssumeRoleWithWebIdentity").then(|| {
            let body = "<A><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIA\
                        </AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>sess\
                        </SessionToken><Expiration>2026-01-01T01:00:00Z</Expiration></Credentials>\
                        </AssumeRoleWithWebIdentityResult></A>";
            Some((200, body.to_owned()))
        })
    })
    .await;
    let file = std::env::temp_dir().join(Host::system().random_id(16).unwrap());
    std::fs::write(&file, "the.jwt\n").unwrap();
    let env = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/ci"),
    ];
    cloud(&server, &env).look(&spec()).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    let exchanges = server.all("AssumeRoleWithWebIdentity");
    assert_eq!(exchanges.len(), 1);
    assert_eq!(
        exchanges[0].param("WebIdentityToken").as_deref(),
        Some("the.jwt")
    );
    assert!(
        !exchanges[0].head.contains("authorization:"),
        "the token is the proof"
    );
    let read = &server.all("DescribeImages")[0];
    assert!(
        read.head.contains("x-amz-security-token: sess"),
        "{}",
        read.head
    );
}

const WRITTEN: &str = r#"{"AccessKeyId":"ASIA","SecretAccessKey":"s","Token":"t","Expiration":"2026-01-01T06:00:00Z"}"#;

#[tokio::test]
async fn a_container_gives_keys_for_its_token() {
    let server = server(|seen, _| {
        (seen.what() == "GET /keys").then(|| match seen.head.contains("authorization: letmein") {
            true => Some((200, WRITTEN.to_owned())),
            false => Some((403, String::new())),
        })
    })
    .await;
    let url = format!("{}/keys", server.url);
    let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str());
    let token = ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "letmein");
    cloud(&server, &[full, token]).look(&spec()).await.unwrap();
    let error = cloud(&server, &[full])
        .look(&spec())
        .await
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{}", error.chain());
}

/// The metadata service: a token first, then what is there.
fn metadata(seen: &Seen) -> Option<Answer> {
    let with_token = seen.head.contains("x-aws-ec2-metadata-token: tok");
    match seen.what().as_str() {
        "PUT /latest/api/token" => {
            assert!(
                seen.head
                    .contains("x-aws-ec2-metadata-token-ttl-seconds: 21600")
            );
            Some(Some((200, "tok".to_owned())))
        }
        line if line.starts_with("GET /latest/") && !with_token => Some(Some((401, String::new()))),
        "GET /latest/meta-data/iam/security-credentials/" => Some(Some((200, "runner".to_owned()))),
        "GET /latest/meta-data/iam/security-credentials/runner" => {
            Some(Some((200, WRITTEN.to_owned())))
        }
        _ => None,
    }
}

#[tokio::test]
async fn an_instances_role_gives_keys() {
    let server = server(|seen, _| metadata(seen)).await;
    let endpoint = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url.as_str());
    cloud(&server, &[endpoint]).look(&spec()).await.unwrap();
    assert_eq!(server.all("PUT /latest/api/token").len(), 1);
    let disabled = ("AWS_EC2_METADATA_DISABLED", "TRUE");
    let error = cloud(&server, &[endpoint, disabled])
        .look(&spec())
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(
        error.chain().contains("no AWS credentials"),
        "{}",
        error.chain()
    );
}

#[tokio::test]
async fn notices_are_seen_and_rebalance_only_once() {
    let server = server(|seen, before| match (seen.what().as_str(), before) {
        // The first token is soon no good any more.
        ("GET /latest/meta-data/spot/instance-action", 0) => Some(Some((401, String::new()))),
        ("GET /latest/meta-data/spot/instance-action", 1) => Some(Some((404, String::new()))),
        ("GET /latest/meta-data/spot/instance-action", _) => Some(Some((
            200,
            r#"{"action":"stop","time":"2026-01-01T00:02:00Z"}"#.to_owned(),
        ))),
        ("GET /latest/meta-data/events/recommendations/rebalance", _) => Some(Some((
            200,
            r#"{"noticeTime":"2026-01-01T00:00:00Z"}"#.to_owned(),
        ))),
        _ => metadata(seen),
    })
    .await;
    let host = Host::fixed([("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url.as_str())]);
    let http = Http::new(&host).unwrap();
    assert_eq!(
        metadata::next_notice(&host, &http, false).await,
        Notice::Rebalance {
            detail: "rebalance recommendation".into()
        }
    );
    assert_eq!(server.all("PUT /latest/api/token").len(), 2);
    assert_eq!(
        metadata::next_notice(&host, &http, true).await,
        Notice::Interruption {
            detail: "EC2 will stop this instance at 2026-01-01T00:02:00Z".into()
        }
    );
    assert_eq!(
        server
            .all("GET /latest/meta-data/events/recommendations/rebalance")
            .len(),
        1
    );
}
