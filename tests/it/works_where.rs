//! Promise 6: works where pipelines run, behind proxies and private certificate authorities.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::tls::with_tls;
use crate::world::World;

/// A forward proxy for plain HTTP, and for tunnels; the answer is its address and how often it was used.
async fn proxy() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let used = Arc::new(AtomicUsize::new(0));
    let count = used.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(forward(stream));
        }
    });
    (address, used)
}

async fn forward(mut client: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    if let Some(tunnel) = head.strip_prefix("CONNECT ") {
        let (authority, _) = tunnel.split_once(' ').unwrap();
        let mut server = TcpStream::connect(authority).await?;
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    }
    let (method, rest) = head
        .split_once(" http://")
        .expect("the absolute form that proxies get");
    let (authority, rest) = rest.split_once('/').unwrap();
    let mut server = TcpStream::connect(authority).await?;
    let (line, headers) = rest.split_once("\r\n").unwrap();
    let head = format!("{method} /{line}\r\nconnection: close\r\n{headers}");
    server.write_all(head.as_bytes()).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

#[tokio::test]
async fn all_calls_but_those_of_the_metadata_service_go_through_the_proxy() {
    let mut world = World::new().await;
    let (address, used) = proxy().await;
    world.set("HTTP_PROXY", Some(&address));
    world.set("http_proxy", Some(&address));
    let done = world.launch(&["--idle-timeout=1"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let calls = world.host_calls();
    assert!(
        used.load(Ordering::SeqCst) >= calls.len(),
        "{} of {calls:?}",
        used.load(Ordering::SeqCst)
    );
    world.until_clean().await;

    // With nothing but the machine's own role: the metadata service is asked, and not by proxy.
    world.sandbox.enable_host_metadata();
    let none = world.folder().join("none");
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        world.set(name, None);
    }
    world.set("AWS_SHARED_CREDENTIALS_FILE", none.to_str());
    let (before, calls_before) = (used.load(Ordering::SeqCst), world.host_calls().len());
    let done = world.launch(&["--dry-run"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    let calls = world.host_calls().split_off(calls_before);
    let proxied = calls
        .iter()
        .filter(|call| !call.starts_with("imds:"))
        .count();
    assert!(calls.len() > proxied, "{calls:?}");
    // A dry run doesn't wait for its look at the agent's address: that may get no further than here.
    let through = used.load(Ordering::SeqCst) - before;
    assert!((proxied..=proxied + 1).contains(&through), "{calls:?}");

    world.set("NO_PROXY", Some("127.0.0.1"));
    let before = used.load(Ordering::SeqCst);
    let done = world.launch(&["--dry-run"]).await;
    assert_eq!(done.code, 0, "{}", world.report());
    assert_eq!(used.load(Ordering::SeqCst), before);
    world.finish().await;
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_named() {
    let mut world = World::new().await;
    let env = world.sandbox.env();
    let plain = &env
        .iter()
        .find(|(name, _)| name == "GITHUB_API_URL")
        .unwrap()
        .1;
    let (address, authority) = with_tls("localhost", plain).await;
    world.set("GITHUB_API_URL", Some(&address));
    let done = world.launch(&["--dry-run"]).await;
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("certificate"), "{}", done.stderr);
    assert!(done.stderr.contains("SSL_CERT_FILE"), "{}", done.stderr);
    let file = world.folder().join("authority.pem");
    std::fs::write(&file, authority).unwrap();
    world.set("SSL_CERT_FILE", file.to_str());
    let done = world.launch(&["--dry-run"]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    world.finish().await;
}

#[tokio::test]
async fn a_machine_without_any_certificate_works() {
    let mut world = World::new().await;
    world.set("SSL_CERT_FILE", Some("/nonexistent/file"));
    world.set("SSL_CERT_DIR", Some("/nonexistent"));
    let done = world.launch(&["--dry-run"]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    world.finish().await;
}

#[tokio::test]
async fn a_cluster_is_reached_through_the_environment_s_proxy_or_its_own() {
    let mut world = World::new().await;
    let (address, used) = proxy().await;
    let count = || used.swap(0, Ordering::SeqCst);
    let dry = ["launch", "--cloud=kubernetes", "--dry-run"];
    world.set("HTTPS_PROXY", Some(&address));
    let done = world.run(&dry).await;
    assert_eq!((done.code, count() > 0), (0, true), "{}", world.report());
    world.set("NO_PROXY", Some("127.0.0.1"));
    let done = world.run(&dry).await;
    assert_eq!((done.code, count()), (0, 0), "{}", world.report());
    world.set("HTTPS_PROXY", None);
    // The kubeconfig's own is for this cluster, whatever the environment says.
    let path = world.sandbox.kubernetes().kubeconfig_token().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["clusters"][0]["cluster"]["proxy-url"] = address.as_str().into();
    std::fs::write(&path, config.to_string()).unwrap();
    world.set("KUBECONFIG", path.to_str());
    let done = world.run(&dry).await;
    assert_eq!((done.code, count() > 0), (0, true), "{}", world.report());
    world.finish().await;
}
