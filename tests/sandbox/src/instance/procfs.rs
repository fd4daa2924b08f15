//! What `/proc` tells about processes and connections.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// The facts about one process that are needed to place it in a tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stat {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) state: char,
    /// In clock ticks since boot; with the pid it names a process for good.
    pub(super) started: u64,
}

impl Stat {
    pub(super) fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// Every process there is.
pub(super) fn pids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

pub(super) fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets, and may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Stat {
        pid,
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// The environment as the kernel holds it; empty when it may not be read.
pub(super) fn environ(pid: i32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()
}

/// The arguments; none for a zombie or a kernel thread.
pub(super) fn argv(pid: i32) -> Vec<String> {
    strings(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default())
}

/// The parts of a NUL-separated list.
pub(super) fn strings(list: &[u8]) -> Vec<String> {
    list.split(|byte| *byte == 0)
        .filter(|part| !part.is_empty())
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}

/// The working folder.
pub(super) fn folder(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Whether the process holds the socket with this inode.
pub(super) fn holds_socket(pid: i32, inode: u64) -> bool {
    let wanted = format!("socket:[{inode}]");
    fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|files| {
        files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|to| to == Path::new(&wanted)))
    })
}

/// A socket's inode and its owner's user id.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) inode: u64,
    pub(super) uid: u32,
}

/// The socket whose own address is `local`.
pub(super) fn socket(local: SocketAddr) -> Option<Socket> {
    // The tables change while they are read, and a line may be missed.
    const TRIES: usize = 4;
    std::iter::repeat_n(["/proc/net/tcp", "/proc/net/tcp6"], TRIES)
        .flatten()
        .find_map(|table| find_socket(&fs::read_to_string(table).ok()?, local))
}

fn find_socket(table: &str, local: SocketAddr) -> Option<Socket> {
    let wanted = [hexadecimal(local, false), hexadecimal(local, true)];
    table.lines().skip(1).find_map(|line| {
        // The tables are long.
        let own = line.split_whitespace().nth(1)?;
        if !wanted.iter().any(|wanted| wanted == own) {
            return None;
        }
        let fields: Vec<&str> = line.split_whitespace().collect();
        Some(Socket {
            uid: fields.get(7)?.parse().ok()?,
            inode: fields.get(9)?.parse().ok().filter(|inode| *inode != 0)?,
        })
    })
}

/// An address as the tables print it: each 32-bit word in the machine's own byte order, in
/// hexadecimal. `mapped`: an IPv4 address inside IPv6.
fn hexadecimal(address: SocketAddr, mapped: bool) -> String {
    let octets = match address.ip() {
        IpAddr::V4(ip) if mapped => ip.to_ipv6_mapped().octets().to_vec(),
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut text = String::new();
    for word in octets.chunks_exact(4) {
        let word = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        text.push_str(&format!("{word:08X}"));
    }
    text.push_str(&format!(":{:04X}", address.port()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found() {
        let own = std::process::id() as i32;
        let stat = stat(own).unwrap();
        assert_eq!(stat.pid, own);
        assert!(!stat.is_zombie());
        assert!(pids().contains(&own));
        assert!(!argv(own).is_empty());
    }

    #[test]
    fn a_connection_leads_to_its_holder() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = socket(client.local_addr().unwrap()).unwrap();
        assert!(holds_socket(std::process::id() as i32, socket.inode));
        assert!(!holds_socket(1, socket.inode));
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn tables_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 0 100 0 0 10 0\n";
        assert_eq!(
            find_socket(table, "127.0.0.1:8080".parse().unwrap()),
            Some(Socket {
                inode: 12345,
                uid: 1000
            })
        );
        assert_eq!(find_socket(table, "127.0.0.1:8081".parse().unwrap()), None);
        assert_eq!(
            hexadecimal("127.0.0.1:80".parse().unwrap(), true),
            "0000000000000000FFFF00000100007F:0050"
        );
    }
}
