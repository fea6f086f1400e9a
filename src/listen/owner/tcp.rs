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
/// `None`: there is no such socket in this network namespace.
///
/// # Errors
/// A table cannot be read, or its owner closed the socket.
pub fn user(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<u32>> {
    let mut was_closed = false;
    for table in TABLES {
        let file = match File::open(table) {
            Ok(file) => BufReader::new(file),
            // A kernel without IPv6 has one table alone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io::Error::new(error.kind(), format!("{table}: {error}"))),
        };
        match find(file, local, peer)? {
            Some(Holder::User(uid)) => return Ok(Some(uid)),
            Some(Holder::Nobody) => was_closed = true,
            None => {}
        }
    }
    if was_closed {
        return Err(io::Error::other("its process closed it"));
    }
    Ok(None)
}

#[derive(Debug, PartialEq, Eq)]
enum Holder {
    User(u32),
    /// Its process closed it, and the kernel keeps it for a while.
    Nobody,
}

fn find(table: impl BufRead, local: SocketAddr, peer: SocketAddr) -> io::Result<Option<Holder>> {
    let (local, peer) = (canonical(local), canonical(peer));
    let mut abandoned = None;
    for line in table.lines() {
        let line = line?;
        let Some(row) = Row::parse(&line) else {
            continue;
        };
        if row.own == peer && row.other == local {
            // One that nobody holds any more has no inode, and "root" where its user was.
            if row.inode != 0 {
                return Ok(Some(Holder::User(row.uid)));
            }
            abandoned = Some(Holder::Nobody);
        }
    }
    Ok(abandoned)
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
        let own = nix::unistd::geteuid().as_raw();
        assert_eq!(user(local, peer).unwrap(), Some(own));
        // The pair the other way round is our own end, which is not accepted yet: nobody holds it.
        assert!(user(peer, local).is_err());
    }

    #[test]
    fn a_client_by_another_address_of_this_host_is_known_and_one_that_left_is_not_of_another() {
        use crate::config::Known;
        use crate::listen::Owner;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let addresses = nix::ifaddrs::getifaddrs().unwrap();
        let mut other = addresses.filter_map(|it| Some(it.address?.as_sockaddr_in()?.ip()));
        let Some(other) = other.find(|ip| !ip.is_loopback()) else {
            eprintln!("this host has no second address, so nothing is shown here");
            return;
        };
        let socket = socket(other, local);
        let own = nix::unistd::geteuid().as_raw();
        let peer = socket.local_addr().unwrap();
        assert_eq!(Owner::of_tcp(local, peer).user, Known::Is(own));
        // It has gone while its request is on its way.
        drop(socket);
        assert_eq!(Owner::of_tcp(local, peer).user, Known::Unknown);
        // Such a one there never was.
        let remote = SocketAddr::new(other.into(), 1);
        assert_eq!(Owner::of_tcp(local, remote).user, Known::IsNot);
    }

    fn socket(from: Ipv4Addr, to: SocketAddr) -> std::net::TcpStream {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect};
        use std::os::fd::AsRawFd;
        let [a, b, c, d] = from.octets();
        let end = nix::sys::socket::socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::empty(),
            None,
        );
        let end = end.unwrap();
        bind(end.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 0)).unwrap();
        connect(end.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, to.port())).unwrap();
        end.into()
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
        let user = |uid| Some(Holder::User(uid));
        assert_eq!(found("127.0.0.1:8080", "127.0.0.1:50000"), user(1001));
        assert_eq!(found("[::1]:8080", "[::1]:50001"), user(1002));
        assert_eq!(found("127.0.0.1:8080", "127.0.0.1:50001"), None);
        assert_eq!(found("127.0.0.1:50000", "127.0.0.1:8080"), user(1000));
        let abandoned = table.lines().take(3).collect::<Vec<_>>().join("\n");
        let (local, peer) = ("127.0.0.1:8080".parse(), "127.0.0.1:50000".parse());
        let holder = find(abandoned.as_bytes(), local.unwrap(), peer.unwrap());
        assert_eq!(holder.unwrap(), Some(Holder::Nobody));
    }
}
