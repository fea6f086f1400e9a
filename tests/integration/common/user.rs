//! Being somebody else: a thread whose user and groups are others, as the kernel sees it.

/// A user of nobody's, and groups of nobody's.
#[derive(Debug, Clone, Copy)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: &'static [u32],
}

/// Whether users can be tried here. Says so where they cannot.
pub fn can_be_others() -> bool {
    let can = cfg!(target_os = "linux") && nix::unistd::geteuid().is_root();
    if !can {
        super::skipped("other users are tried by root on Linux only", true);
    }
    can
}

impl User {
    /// Runs `work` as this user, on a thread of its own: Linux has users by thread, and the C
    /// library alone makes them the process's.
    #[cfg(target_os = "linux")]
    pub fn runs<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let become_it = || {
            let call = |number, a: u32, b: u32, c: u32| {
                // SAFETY: it takes three numbers and touches no memory.
                assert_eq!(unsafe { libc::syscall(number, a, b, c) }, 0, "{self:?}");
            };
            let (count, groups) = (self.groups.len(), self.groups.as_ptr());
            // SAFETY: the kernel reads `count` numbers at `groups`, which has as many.
            let set = unsafe { libc::syscall(libc::SYS_setgroups, count, groups) };
            assert_eq!(set, 0, "{self:?}");
            call(libc::SYS_setresgid, self.gid, self.gid, self.gid);
            call(libc::SYS_setresuid, self.uid, self.uid, self.uid);
        };
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                become_it();
                work()
            });
            thread.join().unwrap()
        })
    }

    #[cfg(not(target_os = "linux"))]
    pub fn runs<T: Send>(&self, _: impl FnOnce() -> T + Send) -> T {
        unreachable!("nobody asks where they cannot be tried")
    }
}
