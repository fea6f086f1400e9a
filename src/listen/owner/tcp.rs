//! Who owns the other end of a TCP connection within this host: the kernel's table of sockets.
//!
//! `/proc/self/net/tcp` and `tcp6` list both ends of such a connection, each with the user that
//! made the socket (proc_pid_net(5)). The netlink interface would be faster, and the packaged
//! sandbox forbids it.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// The user that owns the socket whose own end is `peer` and whose other end is `local`.
///
/// # Errors
/// A table cannot be read, or the socket is in none of them: its owner closed it.
pub fn user(local: SocketAddr, peer: SocketAddr) -> io::Result<u32> {
    for table in TABLES {
        let file = match File::open(table) {
            Ok(file) => BufReader::new(file),
            // A kernel without IPv6 has one table alone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io::Error::new(error.kind(), format!("{table}: {error}"))),
        };
        if let Some(uid) = find(file, local, peer)? {
            return Ok(uid);
        }
    }
    Err(io::Error::other(
        "no process of this network namespace holds the other end",
    ))
}

fn find(table: impl BufRead, local: SocketAddr, peer: SocketAddr) -> io::Result<Option<u32>> {
    let (local, peer) = (canonical(local), canonical(peer));
    for line in table.lines() {
        let line = line?;
        let Some(row) = Row::parse(&line) else {
            continue;
        };
        // One that nobody holds any more has no inode, and "root" where its user was.
        if row.own == peer && row.other == local && row.inode != 0 {
            return Ok(Some(row.uid));
        }
    }
    Ok(None)
}

struct Row {
    own: SocketAddr,
    other: SocketAddr,
    uid: u32,
    inode: u64,
}

impl Row {
    /// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace().skip(1);
        Some(Self {
            own: address(words.next()?)?,
            other: address(words.next()?)?,
            uid: words.nth(4)?.parse().ok()?,
            inode: words.nth(1)?.parse().ok()?,
        })
    }
}

/// The address as the bytes that the kernel has in memory, printed in words of its own byte order.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(ip)?)),
        32 => {
            let mut bytes = [0; 16];
            for (i, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(ip.get(8 * i..8 * i + 8)?)?);
            }
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(canonical(SocketAddr::new(ip, port)))
}

/// A dual-stack socket shows 127.0.0.1 as ::ffff:127.0.0.1.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_names_the_owner_of_a_real_connection() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (local, peer) = (client.peer_addr().unwrap(), client.local_addr().unwrap());
        assert_eq!(user(local, peer).unwrap(), nix::unistd::geteuid().as_raw());
        // The pair the other way round is our own end, which is not accepted yet: nobody holds it.
        assert!(user(peer, local).is_err());
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn rows_of_either_family_are_read_and_abandoned_sockets_belong_to_nobody() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 7001 1 x\n\
             1: 0100007F:C350 0100007F:1F90 06 00000000:00000000 03:00000000 00000000     0        0 0 3 x\n\
             2: 0000000000000000FFFF00000100007F:C350 0000000000000000FFFF00000100007F:1F90 01 0:0 00:0 0  1001        0 7002 1 x\n\
             3: 00000000000000000000000001000000:C351 00000000000000000000000001000000:1F90 01 0:0 00:0 0  1002        0 7003 1 x\n";
        let found = |local: &str, peer: &str| {
            find(
                table.as_bytes(),
                local.parse().unwrap(),
                peer.parse().unwrap(),
            )
            .unwrap()
        };
        assert_eq!(found("127.0.0.1:8080", "127.0.0.1:50000"), Some(1001));
        assert_eq!(found("[::1]:8080", "[::1]:50001"), Some(1002));
        assert_eq!(found("127.0.0.1:8080", "127.0.0.1:50001"), None);
    }
}
