# Cuts the raw answers of UID FETCH (UID FLAGS INTERNALDATE BODY.PEEK[]) into files, octet by
# octet. Arguments: a directory, then the folders in the order they were fetched in, each fetch
# tagged f1, f2, … after an EXAMINE tagged e1, e2, …. Prints a line a message: file, folder, UID, instant, flags.
use strict;
use warnings;

my ($directory, @folders) = @ARGV;
my %month;
@month{qw(Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec)} = 1 .. 12;

# Servers answer a date in whatever zone they like: only the instant counts.
sub instant {
    my ($d, $mon, $y, $h, $m, $s, $sign, $zh, $zm) =
        $_[0] =~ /(\d+)-(\w+)-(\d+) (\d+):(\d+):(\d+) ([+-])(\d\d)(\d\d)/ or die "no date: $_[0]";
    my $month = $month{$mon};
    $y-- if $month <= 2;
    my $days = 365 * $y + int($y / 4) - int($y / 100) + int($y / 400)
        + int((153 * (($month + 9) % 12) + 2) / 5) + $d - 1 - 719468;
    my $zone = "${sign}1" * ($zh * 3600 + $zm * 60);
    return $days * 86400 + $h * 3600 + $m * 60 + $s - $zone;
}

binmode STDIN;
binmode STDOUT;
my ($folder, $number, $holds_mail) = (0, 0, 1);
while (defined(my $line = <STDIN>)) {
    # A folder that is only there for those below it cannot be examined.
    $holds_mail = $1 eq 'OK' if $line =~ /^e\d+ (\w+)/;
    if ($line =~ /^f\d+ (\w+)/) {
        die "refused: $line" if $holds_mail and $1 ne 'OK';
        $folder++;
    }
    next unless $line =~ /^\* \d+ FETCH /;
    my $octets = '';
    while ($line =~ /\{(\d+)\}\r\n\z/) {
        die "cut short" unless read(STDIN, $octets, $1) == $1;
        $line .= <STDIN>;
    }
    my ($uid) = $line =~ /UID (\d+)/ or die "no UID: $line";
    my ($flags) = $line =~ /FLAGS \(([^)]*)\)/ or die "no flags: $line";
    my ($date) = $line =~ /INTERNALDATE "([^"]+)"/ or die "no date: $line";
    my @flags = sort grep { $_ ne '\Recent' } split ' ', $flags;
    my $file = sprintf '%s/%05d.eml', $directory, ++$number;
    open my $out, '>:raw', $file or die "$file: $!";
    print $out $octets;
    close $out or die "$file: $!";
    print join("\t", $file, $folders[$folder], $uid, instant($date), "@flags"), "\n";
}
