//! How soon the launcher speaks, and how long the sandbox takes to listen.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;

/// How long a first request may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Points an environment's services at one address.
pub(crate) fn redirected(env: Vec<(String, String)>, url: &str) -> Vec<(String, String)> {
    let redirect = |(name, value): (String, String)| match value.starts_with("http://") {
        true => (name, url.to_owned()),
        false => (name, value),
    };
    env.into_iter().map(redirect).collect()
}

/// From a program's start to the first byte of its first request, which is never answered. The
/// sandbox would add the time that it needs to find out who calls.
pub(crate) async fn request(listener: &TcpListener, mut command: Command) -> io::Result<Duration> {
    let start = Instant::now();
    let mut program = command.spawn()?;
    let request = async {
        let (mut stream, _) = listener.accept().await?;
        stream.read_exact(&mut [0]).await
    };
    let came = tokio::select! {
        came = timeout(PATIENCE, request) => came,
        ended = program.wait() => {
            return Err(io::Error::other(format!("it called nobody and ended: {}", ended?)));
        }
    };
    let time = start.elapsed();
    program.kill().await?;
    came.map_err(io::Error::other)??;
    // What it had sent besides is no part of the next start.
    while timeout(Duration::from_millis(1), listener.accept())
        .await
        .is_ok()
    {}
    Ok(time)
}

/// From a new connection to the answer to a request that asks for nothing.
pub(crate) async fn answer(url: &str) -> io::Result<Duration> {
    let address = url.trim_start_matches("http://");
    let start = Instant::now();
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("HEAD / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_byte_counts() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shell = |script: String| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &script]).kill_on_drop(true);
            command
        };
        let calls = shell(format!(
            "sleep 0.2; exec curl -s http://127.0.0.1:{port}/ http://127.0.0.1:{port}/"
        ));
        let time = request(&listener, calls).await.unwrap();
        assert!(time >= Duration::from_millis(200), "{time:?}");
        let silent = request(&listener, shell("exit 3".into())).await;
        assert!(silent.is_err());
    }

    #[test]
    fn only_addresses_are_redirected() {
        let env = [("A", "http://127.0.0.1:1/api/{arch}"), ("B", "octo/repo")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let expected = [("A", "http://127.0.0.1:2"), ("B", "octo/repo")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(redirected(env.into(), "http://127.0.0.1:2"), expected);
    }
}
