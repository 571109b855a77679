//! A slow line: two network namespaces, a TUN device in each, and threads that hold every packet
//! for half a round trip. netem is not in every kernel.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Where the servers are; reached over loopback in their own namespace, over the line from the
/// other. Two addresses, since a host's budget of logins is for one.
pub const SOURCE: &str = "10.213.0.1";
pub const TARGET: &str = "10.213.0.2";
const TOOLS: &str = "10.213.0.9";

/// The packet with the header that says how it is to be cut (`struct virtio_net_hdr`).
const PACKET_MAX: usize = 65_536 + 64;
const QUEUED_MAX: usize = 20_000;

pub struct Line {
    near: String,
    far: String,
    one_way_micros: Arc<AtomicU64>,
}

impl Line {
    /// Lays a line between two new namespaces.
    pub fn lay() -> Line {
        let name = |end: &str| format!("pecsync-bench-{}-{end}", std::process::id());
        let line = Line {
            near: name("servers"),
            far: name("tools"),
            one_way_micros: Arc::new(AtomicU64::new(0)),
        };
        let near = open_end(&line.near, &[SOURCE, TARGET], &[TOOLS]);
        let far = open_end(&line.far, &[TOOLS], &[SOURCE, TARGET]);
        carry(near.try_clone().expect("cloned"), far.try_clone().expect("cloned"), &line);
        carry(far, near, &line);
        line
    }

    /// The namespace of the servers.
    pub fn servers(&self) -> &str {
        &self.near
    }

    /// The namespace from which the servers are so far away. Without a distance it is their own.
    pub fn tools(&self, round_trip: Duration) -> &str {
        self.one_way_micros.store(round_trip.as_micros() as u64 / 2, Ordering::Relaxed);
        if round_trip.is_zero() { &self.near } else { &self.far }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        for name in [&self.near, &self.far] {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

/// Makes a namespace with a TUN device in it; what is sent there is read from the file.
fn open_end(name: &str, addresses: &[&str], peers: &[&str]) -> File {
    ip(&["netns", "add", name]);
    let opened = on_thread(name, || tun("line"));
    let device = opened.join().expect("a TUN device");
    ip(&["-n", name, "link", "set", "lo", "up"]);
    ip(&["-n", name, "link", "set", "line", "txqueuelen", "10000", "up"]);
    for address in addresses {
        ip(&["-n", name, "address", "add", address, "dev", "line"]);
    }
    for peer in peers {
        ip(&["-n", name, "route", "add", peer, "dev", "line"]);
    }
    device
}

/// Starts the command in a namespace.
pub fn inside<'c>(namespace: &str, command: &'c mut Command) -> &'c mut Command {
    let namespace = File::open(format!("/run/netns/{namespace}")).expect("a namespace");
    let enter = move || {
        // SAFETY: setns takes no pointers and is async-signal-safe.
        match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: nothing but that call runs between fork and exec.
    unsafe { command.pre_exec(enter) }
}

/// Does something in a namespace, on a thread of its own.
pub fn on_thread<T: Send + 'static>(
    namespace: &str,
    act: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let namespace = File::open(format!("/run/netns/{namespace}")).expect("a namespace");
    thread::spawn(move || {
        // SAFETY: no pointers; only this thread changes its namespace, and it ends here.
        let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(entered, 0, "setns: {}", std::io::Error::last_os_error());
        act()
    })
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().expect("ip runs");
    assert!(status.success(), "ip {arguments:?}: {status}");
}

/// A TUN device that takes and gives packets uncut, as large as TCP makes them.
fn tun(name: &str) -> File {
    const TUN_OFFLOADS: libc::c_ulong = 1 | 2; // TUN_F_CSUM | TUN_F_TSO4
    const IFF_VNET_HDR: i32 = 0x4000;
    let device = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    let device = device.expect("/dev/net/tun opens (root is needed)");
    // SAFETY: a request of all zeros is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | IFF_VNET_HDR) as i16;
    // SAFETY: the request outlives the call; the second takes a number.
    let made = unsafe {
        libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request)
            | libc::ioctl(device.as_raw_fd(), libc::TUNSETOFFLOAD, TUN_OFFLOADS)
    };
    assert_eq!(made, 0, "a TUN device: {}", std::io::Error::last_os_error());
    device
}

/// Carries packets one way, in order, each as late as the line is long.
fn carry(mut from: File, to: File, line: &Line) {
    let one_way = line.one_way_micros.clone();
    let (sender, queued) = sync_channel(QUEUED_MAX);
    thread::spawn(move || {
        let mut packet = vec![0; PACKET_MAX];
        while let Ok(octets) = from.read(&mut packet) {
            let due = Instant::now() + Duration::from_micros(one_way.load(Ordering::Relaxed));
            if sender.send((due, packet[..octets].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || deliver(&queued, to));
}

fn deliver(queued: &Receiver<(Instant, Vec<u8>)>, mut to: File) {
    while let Ok((due, packet)) = queued.recv() {
        let early = due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            thread::sleep(early);
        }
        // A device that is going down with its namespace takes no packet; TCP repeats others.
        let _ = to.write(&packet);
    }
}
