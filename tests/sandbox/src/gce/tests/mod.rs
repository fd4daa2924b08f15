//! The fake is spoken to as Google's pages show it.

mod fate;
mod insert;
mod life;
mod reads;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::schema::{Side, check};
use super::*;
use crate::Sandbox;
use crate::google::COMPUTE_READ_ONLY;

/// A sandbox that is quick, and a launcher's token.
struct Lab {
    sandbox: Sandbox,
    gce: Gce,
    token: String,
}

async fn lab() -> Lab {
    let mut config = Config::new("/bin/true");
    config.boot_delay = Duration::from_millis(20);
    config.shutdown_delay = Duration::from_millis(10);
    config.visibility_delay = Duration::from_millis(10);
    config.spot_notice = Duration::from_secs(1);
    lab_with(config).await
}

async fn lab_with(config: Config) -> Lab {
    let sandbox = Sandbox::start(config).await.unwrap();
    let gce = sandbox.gce();
    let token = gce.access_token();
    Lab {
        sandbox,
        gce,
        token,
    }
}

impl Lab {
    /// Calls by a path below the project; what answers with 200 must be as described.
    async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        self.call_in("octo-ci", method, path, body).await
    }

    async fn call_in(&self, project: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let path = format!("projects/{project}/{path}");
        let (status, answer) = self.send(method, &path, &body, &self.token).await;
        if status == 200 {
            let bare = path.split('?').next().unwrap();
            let route = description().route(method, bare).unwrap();
            let name = route.method.response.as_ref().unwrap();
            let all = description();
            let schema = all.schema(name).unwrap();
            check(all, schema, &answer, name, Side::Answer).unwrap();
        }
        (status, answer)
    }

    async fn send(&self, method: &str, path: &str, body: &str, token: &str) -> (u16, Value) {
        let url = self.gce.url();
        let address = url.split('/').nth(2).unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "{method} /compute/v1/{path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer \
             {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: \
             close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let (_, text) = answer.split_once("\r\n\r\n").unwrap();
        // A long answer may come in chunks, between lines with their sizes; JSON begins and ends
        // with braces.
        let json = &text[text.find('{').unwrap()..=text.rfind('}').unwrap()];
        (status, serde_json::from_str(json).unwrap())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, &Value::Null).await
    }

    /// Makes an instance and waits for its operation.
    async fn insert(&self, zone: &str, body: &Value) -> (u16, Value) {
        let path = format!("zones/{zone}/instances");
        let (status, operation) = self.call("POST", &path, body).await;
        if status == 200 {
            (200, self.wait(&operation).await)
        } else {
            (status, operation)
        }
    }

    /// Waits for an operation.
    async fn wait(&self, operation: &Value) -> Value {
        let place = match operation["zone"].as_str() {
            Some(zone) => format!("zones/{}", zone.rsplit('/').next().unwrap()),
            None => "global".into(),
        };
        let name = operation["name"].as_str().unwrap();
        let path = format!("{place}/operations/{name}/wait");
        let (status, done) = self.call("POST", &path, &Value::Null).await;
        assert_eq!((status, &done["status"]), (200, &json!("DONE")), "{done}");
        done
    }

    /// Asks until something is there.
    async fn until_found(&self, path: &str) -> Value {
        let start = Instant::now();
        loop {
            let (status, answer) = self.get(path).await;
            if status == 200 {
                return answer;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{answer}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until(&self, name: &str, status: &str) {
        let start = Instant::now();
        loop {
            let instances = self.gce.instances();
            let found = instances.iter().rfind(|i| i.name == name).unwrap();
            if found.status == status {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{name} is {} and not {status}",
                found.status
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The least that makes an instance in a zone, as Google's page on creating one shows it.
fn least(zone: &str, name: &str) -> Value {
    json!({
        "name": name,
        "machineType": format!("zones/{zone}/machineTypes/e2-standard-2"),
        "disks": [{
            "boot": true,
            "autoDelete": true,
            "initializeParams": {
                "sourceImage":
                    "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64",
            },
        }],
        "networkInterfaces": [{"network": "global/networks/default"}],
    })
}

/// Puts a value into a body: `disks.0.boot`.
fn with(mut body: Value, path: &str, value: Value) -> Value {
    let pointer = format!("/{}", path.replace('.', "/"));
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    let parent = body.pointer_mut(parent).unwrap();
    match last.parse::<usize>() {
        Ok(index) => parent[index] = value,
        Err(_) => parent[last] = value,
    }
    body
}

/// The reason and the message of a refusal, in both of whose places it is said.
fn refusal(answer: &Value) -> (&str, &str) {
    let error = &answer["error"];
    let entry = &error["errors"][0];
    assert_eq!(entry["domain"], "global", "{answer}");
    (
        entry["reason"].as_str().unwrap(),
        error["message"].as_str().unwrap(),
    )
}
