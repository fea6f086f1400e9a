#!/usr/bin/perl
# probe.pl NAME: tries one thing that the sandbox shall prevent. Exits 0 if it could be done, 1 if not.
# System calls have the numbers of x86-64. Perl, because a minimal system has nothing else.
use strict;
use warnings;
use Errno qw(EFAULT);
use Socket qw(:DEFAULT IPPROTO_IP);

my $tested = '/tmp/probe.' . $$;

sub call { my $result = syscall(shift, @_); return $result != -1 }
sub own_file { open(my $file, '>', $tested) or die "$tested: $!"; return $tested }
sub holds { open(my $file, '<', shift) or return 0; return defined(my $line = <$file>) }
sub listed { opendir(my $directory, shift) or return 0; return scalar(grep { !/^\.\.?$/ } readdir $directory) }
sub writable { return open(my $file, '>>', shift) }
sub multicast {
    socket(my $out, AF_INET, SOCK_DGRAM, 0) or return 0;
    setsockopt($out, IPPROTO_IP, 32, inet_aton('127.0.0.1')) or return 0;    # IP_MULTICAST_IF
    return defined send($out, 'x', 0, sockaddr_in(9, inet_aton('239.1.2.3')));
}

my %try = (
    root            => sub { $> == 0 },
    rest_of_files   => sub { listed('/srv') },
    multicast       => \&multicast,
    take_over       => sub { chown 1, 1, own_file() },
    personality     => sub { call(135, 0x0040000) },                         # ADDR_NO_RANDOMIZE
    writable_code   => sub { call(9, 0, 4096, 7, 0x22, -1, 0) },             # mmap
    setuid_program  => sub { `/usr/bin/probe-setuid -u` == 0 },
    device          => sub { -e '/dev/probe' },
    shared_memory   => sub { call(29, 0x6d637070, 1, 0) },                   # shmget
    own_mounts      => sub { readlink('/proc/self/ns/mnt') eq readlink('/proc/1/ns/mnt') },
    others_files    => sub { -e '/tmp/probe-file' },
    uptime          => sub { holds('/proc/uptime') },
    clock           => sub { call(227, 0, 0) || $! == EFAULT },              # clock_settime, of nothing
    control_group   => sub { mkdir('/sys/fs/cgroup/probe') && rmdir('/sys/fs/cgroup/probe') },
    home            => sub { -e '/root/probe-file' },
    hostname        => sub { my $name = 'packagetest'; call(170, $name, length $name) },
    kernel_log      => sub { holds('/dev/kmsg') },
    kernel_modules  => sub { listed('/usr/lib/modules') },
    kernel_tunables => sub { open(my $file, '>', '/proc/irq/default_smp_affinity') },
    processes       => sub { -d '/proc/1' },
    system_files    => sub { writable('/usr/lib/probe') && writable('/etc/mcp-auth-proxy/probe') },
    leave_memory    => sub { call(29, 0x6d637071, 1, 01600) },               # shmget, IPC_CREAT
    packet_socket   => sub { socket(my $out, 17, SOCK_RAW, 0) },             # AF_PACKET
    netlink_socket  => sub { socket(my $out, 16, SOCK_RAW, 0) },
    namespace       => sub { call(272, 0x04000000) },                        # unshare, CLONE_NEWUTS
    realtime        => sub { my $priority = pack 'i', 1; call(144, 0, 1, $priority) },    # SCHED_FIFO
    make_setuid     => sub { chmod 04755, own_file() },
    foreign_code    => sub { system('/usr/bin/probe-32bit') == 0 },
    trace           => sub { call(101, 0, 0, 0, 0) },                        # ptrace, PTRACE_TRACEME
    change_root     => sub { my $path = '/'; call(161, $path) },
    renice          => sub { call(141, 0, 0, 5) },                           # setpriority
    readable_files  => sub { own_file(); (stat $tested)[2] & 044 },
    dump_core       => sub { my $limit = pack 'QQ', 0, 0; call(97, 4, $limit); (unpack 'QQ', $limit)[1] != 0 },  # getrlimit
);
my $name = shift;
my $could = $try{$name}->();
my $why = $!;
unlink $tested;
print $could ? "$name: done\n" : "$name: not done ($why)\n";
exit($could ? 0 : 1);
