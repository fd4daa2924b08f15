//! The fake is spoken to as Microsoft's pages show it.

mod life;
mod machines;
mod reads;
mod rights;

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::schema::{Side, check};
use super::*;
use crate::Sandbox;
use crate::oidc::Issuer;

const RESOURCES: &str = "2021-04-01";
const COMPUTE: &str = "2024-07-01";
const NETWORK: &str = "2024-05-01";
const AUTHORIZATION: &str = "2022-04-01";

/// A sandbox that is quick, Azure in it, and a launcher's token.
struct Lab {
    sandbox: Sandbox,
    azure: Azure,
    token: String,
}

/// An answer.
#[derive(Debug)]
struct Got {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Value,
}

impl Got {
    fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

async fn lab() -> Lab {
    lab_with(|_| {}).await
}

async fn lab_with(change: impl FnOnce(&mut Config)) -> Lab {
    let mut config = Config::new("/bin/true");
    config.boot_delay = Duration::from_millis(200);
    config.shutdown_delay = Duration::from_millis(30);
    config.visibility_delay = Duration::ZERO;
    config.role_delay = Duration::from_millis(400);
    config.spot_notice = Duration::from_secs(20);
    change(&mut config);
    let sandbox = Sandbox::start(config.clone()).await.unwrap();
    let wire = sandbox.wire.clone();
    let issuer = Issuer::start(wire.clone()).await.unwrap();
    let home = sandbox.home();
    let entra = Entra::start(wire.clone(), &config, &home, issuer)
        .await
        .unwrap();
    let env: BTreeMap<String, String> = entra.env().into_iter().collect();
    let azure = Azure::start(wire, &config, sandbox.folder(), entra)
        .await
        .unwrap();
    azure.set_retry_after(0);
    let mut lab = Lab {
        sandbox,
        azure,
        token: String::new(),
    };
    lab.token = lab.sign_in(&env).await;
    lab
}

impl Lab {
    async fn sign_in(&self, env: &BTreeMap<String, String>) -> String {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &env["AZURE_CLIENT_ID"])
            .append_pair("client_secret", &env["AZURE_CLIENT_SECRET"])
            .append_pair("scope", &format!("{}/.default", self.azure.url()))
            .finish();
        let url = format!(
            "{}/{}/oauth2/v2.0/token",
            env["AZURE_AUTHORITY_HOST"], env["AZURE_TENANT_ID"]
        );
        let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
        let got = send(&url, "POST", kind, &form).await;
        got.body["access_token"].as_str().unwrap().to_owned()
    }

    /// Calls below the subscription.
    async fn call(&self, method: &str, path: &str, version: &str, body: &Value) -> Got {
        let join = if path.contains('?') { '&' } else { '?' };
        let url = format!(
            "{}{}{path}{join}api-version={version}",
            self.azure.url(),
            path::subscription_id()
        );
        self.at(method, &url, body).await
    }

    async fn at(&self, method: &str, url: &str, body: &Value) -> Got {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let headers = format!(
            "Authorization: Bearer {}\r\nContent-Type: application/json\r\n",
            self.token
        );
        send(url, method, &headers, &body).await
    }

    async fn get(&self, path: &str, version: &str) -> Got {
        self.call("GET", path, version, &Value::Null).await
    }

    /// Asks after an operation until it is over; the answer is its status.
    async fn follow(&self, begun: &Got) -> Value {
        assert!(matches!(begun.status, 200..=202), "{begun:?}");
        let url = begun.header("azure-asyncoperation");
        let start = Instant::now();
        loop {
            let got = self.at("GET", url, &Value::Null).await;
            assert_eq!(got.status, 200, "{got:?}");
            if got.body["status"] != "InProgress" {
                return got.body;
            }
            assert_eq!(got.header("retry-after"), "0");
            assert!(start.elapsed() < Duration::from_secs(60), "{got:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn until(&self, what: &str, mut is: impl FnMut(&Azure) -> bool) {
        let start = Instant::now();
        while !is(&self.azure) {
            let all = self.azure.instances();
            assert!(start.elapsed() < Duration::from_secs(60), "{what}: {all:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The group with its network.
    async fn prepare(&self, group: &str, region: &str) {
        let tags = json!({"runner-launch": "1", "team": "ml"});
        let body = json!({"location": region, "tags": tags});
        let at = format!("/resourcegroups/{group}");
        let got = self.call("PUT", &at, RESOURCES, &body).await;
        assert_eq!(got.status, 201, "{got:?}");
        check("resource.ResourceGroup", &got.body, Side::Answer).unwrap();
        let (guard, network) = (self.guard(group), self.network(group));
        let (rules, space) = (guard_body(region), network_body(region));
        let guard = self.call("PUT", &guard, NETWORK, &rules);
        let network = self.call("PUT", &network, NETWORK, &space);
        let (guard, network) = tokio::join!(guard, network);
        assert_eq!((guard.status, network.status), (201, 201));
        assert_eq!(guard.body["properties"]["provisioningState"], "Updating");
        assert_eq!(self.follow(&guard).await["status"], "Succeeded");
        assert_eq!(self.follow(&network).await["status"], "Succeeded");
    }

    fn guard(&self, group: &str) -> String {
        format!("/resourceGroups/{group}/providers/Microsoft.Network/networkSecurityGroups/nsg")
    }

    fn network(&self, group: &str) -> String {
        format!("/resourceGroups/{group}/providers/Microsoft.Network/virtualNetworks/net")
    }

    fn machine(&self, group: &str) -> String {
        format!("/resourceGroups/{group}/providers/Microsoft.Compute/virtualMachines/{group}")
    }

    async fn put_machine(&self, group: &str, body: &Value) -> Got {
        self.call("PUT", &self.machine(group), COMPUTE, body).await
    }

    /// The code with which a machine's body is refused.
    async fn refused(&self, group: &str, body: &Value) -> (u16, String) {
        let got = self.put_machine(group, body).await;
        (got.status, got.code().to_owned())
    }
}

async fn send(url: &str, method: &str, headers: &str, body: &str) -> Got {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!(
        "{method} /{} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\
         {headers}\r\n{body}",
        path.replace(' ', "%20"),
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Got {
        status: status.parse().unwrap(),
        headers: headers.collect(),
        body: serde_json::from_str(body).unwrap_or_else(|_| body.into()),
    }
}

fn guard_body(region: &str) -> Value {
    json!({"location": region, "properties": {"securityRules": [{
        "name": "ssh",
        "properties": {
            "priority": 100, "direction": "Inbound", "access": "Allow", "protocol": "Tcp",
            "sourceAddressPrefixes": ["203.0.113.0/24", "198.51.100.7/32"], "sourcePortRange": "*",
            "destinationAddressPrefix": "*", "destinationPortRange": "22",
        },
    }]}})
}

fn network_body(region: &str) -> Value {
    json!({"location": region, "properties": {
        "addressSpace": {"addressPrefixes": ["10.0.0.0/16"]},
        "subnets": [{"name": "default", "properties": {"addressPrefix": "10.0.0.0/24"}}],
    }})
}

/// A machine as it is asked for, with its parts inline.
fn machine_body(group: &str, script: &str) -> Value {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    let mut key = Vec::new();
    for part in [&b"ssh-ed25519"[..], &[7; 32]] {
        key.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
        key.extend(part);
    }
    let key = format!("ssh-ed25519 {}", BASE64_STANDARD.encode(key));
    let network = path::Kind::VirtualNetwork.id(group, "net");
    json!({
        "location": "westus2",
        "tags": {"runner-launch": "1"},
        "identity": {"type": "SystemAssigned"},
        "properties": {
            "hardwareProfile": {"vmSize": "Standard_F8s_v2"},
            "storageProfile": {
                "imageReference": {
                    "publisher": "Canonical", "offer": "ubuntu-24_04-lts", "sku": "server",
                    "version": "latest",
                },
                "osDisk": {
                    "createOption": "FromImage", "deleteOption": "Delete", "diskSizeGB": 35,
                    "managedDisk": {"storageAccountType": "Premium_LRS"},
                },
            },
            "osProfile": {
                "computerName": group,
                "adminUsername": "ubuntu",
                "customData": BASE64_STANDARD.encode(script),
                "linuxConfiguration": {
                    "disablePasswordAuthentication": true,
                    "ssh": {"publicKeys": [{
                        "path": "/home/ubuntu/.ssh/authorized_keys", "keyData": key,
                    }]},
                },
            },
            "networkProfile": {
                "networkApiVersion": "2020-11-01",
                "networkInterfaceConfigurations": [{
                    "name": "nic",
                    "properties": {
                        "primary": true,
                        "deleteOption": "Delete",
                        "networkSecurityGroup": {
                            "id": path::Kind::NetworkSecurityGroup.id(group, "nsg"),
                        },
                        "ipConfigurations": [{
                            "name": "ip",
                            "properties": {
                                "subnet": {"id": format!("{network}/subnets/default")},
                                "publicIPAddressConfiguration": {
                                    "name": "address",
                                    "sku": {"name": "Standard", "tier": "Regional"},
                                    "properties": {
                                        "deleteOption": "Delete",
                                        "publicIPAllocationMethod": "Static",
                                    },
                                },
                            },
                        }],
                    },
                }],
            },
            "securityProfile": {
                "securityType": "TrustedLaunch",
                "uefiSettings": {"secureBootEnabled": true, "vTpmEnabled": true},
            },
            "diagnosticsProfile": {"bootDiagnostics": {"enabled": true}},
        },
    })
}

/// A body with a value changed; null takes it away.
fn with(mut body: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let object = body.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Value::Null => drop(object.remove(name)),
        value => drop(object.insert(name.into(), value)),
    }
    body
}
