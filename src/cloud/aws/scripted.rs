//! A server for tests: answers each request by a function and remembers them all.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Method and path.
    pub(super) line: String,
    /// The head, in lower case.
    pub(super) head: String,
    pub(super) body: String,
}

impl Seen {
    /// The action of a query, or the method and path.
    pub(super) fn what(&self) -> String {
        self.param("Action").unwrap_or_else(|| self.line.clone())
    }

    pub(super) fn param(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.body.as_bytes())
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.into_owned())
    }
}

/// Status and body; `None` cuts the connection.
pub(super) type Answer = Option<(u16, String)>;

/// The server; it ends with the test's runtime.
pub(super) struct Server {
    pub(super) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Starts one whose answers `script` gives, from the request and the number of requests of
    /// the same kind before it.
    pub(super) async fn start(
        script: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let log = Arc::clone(&seen);
        let script = Arc::new(script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&log), Arc::clone(&script)));
            }
        });
        Self { url, seen }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The requests of one kind.
    pub(super) fn all(&self, what: &str) -> Vec<Seen> {
        self.seen()
            .into_iter()
            .filter(|seen| seen.what() == what)
            .collect()
    }

    /// The kinds of all requests, in order.
    pub(super) fn order(&self) -> Vec<String> {
        self.seen().iter().map(Seen::what).collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    log: Arc<Mutex<Vec<Seen>>>,
    script: Arc<impl Fn(&Seen, usize) -> Answer>,
) {
    let mut buffer = Vec::new();
    while let Some(request) = read(&mut stream, &mut buffer).await {
        let answer = {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            let before = log
                .iter()
                .filter(|seen| seen.what() == request.what())
                .count();
            log.push(request.clone());
            script(&request, before)
        };
        let Some((status, body)) = answer else {
            return;
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all((head + &body).as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    loop {
        let text = String::from_utf8_lossy(buffer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let line = head
                .lines()
                .next()?
                .trim_end_matches(" HTTP/1.1")
                .to_owned();
            let head = head.to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                let body = body[..length].to_owned();
                buffer.clear();
                return Some(Seen { line, head, body });
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
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
