# Somebody before the enrollment page, without a browser: goes through its steps as a form is sent,
# solves the proof of work, and prints what each page says. Ends with 1 where a page is not what it
# has to be. PORT UI MAILBOX PASSWORD [EMAIL PHONE NEW_PASSWORD]
use strict;
use warnings;
use Digest::SHA qw(sha256_hex);
use IO::Socket::INET;

my ($port, $ui, $mailbox, $password, $email, $phone, $new) = @ARGV;
my %cookies;

sub request {
    my ($method, $path, %fields) = @_;
    my $encode = sub { join '', map { sprintf '%%%02X', $_ } unpack 'C*', $_[0] };
    my $body = join '&', map { "$_=" . $encode->($fields{$_}) } sort keys %fields;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port)
        or die "nobody answers at port $port\n";
    my $cookies = join '; ', map { "$_=$cookies{$_}" } sort keys %cookies;
    print $socket "$method /$path HTTP/1.1\r\nHost: 127.0.0.1:$port\r\nConnection: close\r\n",
        "Origin: http://127.0.0.1:$port\r\nCookie: $cookies\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        'Content-Length: ', length $body, "\r\n\r\n$body";
    my ($head, $page) = split /\r\n\r\n/, do { local $/; <$socket> }, 2;
    $cookies{$1} = $2 while $head =~ /^set-cookie: ([^=]+)=([^;\r]*)/mgi;
    return request('GET', $1) if $head =~ /^location: (?:\.\/)?(\S+)/mi;
    return $page;
}

sub said {
    my ($page) = @_;
    $page =~ s/<noscript>.*?<\/noscript>//s;
    my $text = join ' – ', $page =~ /<h1>(.*?)<\/h1>/s, $page =~ /<p class="(?:error|state)"[^>]*>(.*?)<\/p>/sg;
    $text =~ s/<[^>]*>//g;
    $text =~ s/&quot;/"/g;
    print "$text\n";
    return $_[0];
}

sub form {
    my ($page) = @_;
    $page =~ /name="form" value="([^"]+)"/ or die "no form: the visit has ended\n";
    return $1;
}

my $first = said(request('GET', "?ui=$ui"));
my ($challenge) = $first =~ /data-challenge="([^"]*)"/ or die "no challenge\n";
$challenge =~ s/&quot;/"/g;
$challenge =~ s/&amp;/&/g;
my %it = $challenge =~ /"(\w+)":"?([^",}]*)"?/g;
my ($number) = grep { sha256_hex($it{salt} . $_) eq $it{challenge} } 0 .. $it{maxnumber};
defined $number or die "the proof of work has no solution\n";
my $solution = sprintf '{"algorithm":"%s","challenge":"%s","number":%d,"salt":"%s","signature":"%s"}',
    @it{qw(algorithm challenge)}, $number, @it{qw(salt signature)};
my $page = said(request('POST', "?ui=$ui", mailbox => $mailbox, solution => $solution));
$page = said(request('POST', 'password', form => form($page), password => $password));
if (defined $new) {
    $page = said(request('POST', 'contacts', form => form($page), email => $email, phone => $phone));
    $page = said(request('POST', 'new-password', form => form($page), new => $new, again => $new));
}
print "$_\n" for $page =~ /<li>(.*?)<\/li>/sg;
exit($page =~ /class="state"/ ? 0 : 1);
