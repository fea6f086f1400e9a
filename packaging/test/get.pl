#!/usr/bin/perl
# get.pl SOCKET|PORT PATH: prints the response to a GET. For a minimal host, which has Perl and no curl.
use strict;
use warnings;
use IO::Socket::UNIX;
use IO::Socket::INET;

my ($where, $path) = @ARGV;
my $connection = $where =~ m{^/}
    ? IO::Socket::UNIX->new(Peer => $where)
    : IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $where);
unless ($connection) {
    print "cannot connect: $!\n";
    exit 1;
}
print $connection "GET $path HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
print while <$connection>;
