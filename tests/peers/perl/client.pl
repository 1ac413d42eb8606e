# Gearman::Client and ::Taskset.
use strict;
use warnings;
use Gearman::Client;

$| = 1;
my $server = "127.0.0.1:$ARGV[0]";
my $client = Gearman::Client->new(job_servers => [$server], exceptions => 1);
my $bytes = join '', map { chr } 0 .. 255;

sub reversed {
    my ($payload, %options) = @_;
    my $result = $client->do_task('reverse', $payload, {timeout => 10, %options});
    return defined $result && $$result eq reverse($payload) ? 'ok' : 'wrong';
}
print 'binary: ', reversed($bytes), "\n";
print 'empty: ', reversed(''), "\n" unless grep { $_ eq 'empty' } @ARGV;
print "$_: ", reversed($_, priority => $_), "\n" for qw(high low);

my $handle = $client->dispatch_background('parked', 'x', {});
my $status = $client->get_status($handle);
print 'background: ', $status && $status->known ? 'known' : 'unknown', "\n";

# A task set joins tasks of one unique itself: two sets, one after the other, do not.
my @counts;
my $set = $client->new_task_set;
my $other = Gearman::Client->new(job_servers => [$server])->new_task_set;
$_->add_task('count', '', {uniq => "perl-$$", on_complete => sub { push @counts, ${$_[0]} }}) for $set, $other;
$_->wait(timeout => 10) for $set, $other;
print 'unique: ', @counts == 2 && $counts[0] eq $counts[1] ? 'same' : "different @counts", "\n";

# What becomes of one job.
sub events {
    my ($function) = @_;
    my @events;
    my $set = $client->new_task_set;
    $set->add_task($function, '', {
        timeout => 10,
        on_status => sub { push @events, "status $_[0]/$_[1]" },
        on_data => sub { push @events, "data ${$_[0]}" },
        on_warning => sub { push @events, "warning ${$_[0]}" },
        on_complete => sub { push @events, "complete ${$_[0]}" },
        on_exception => sub { push @events, 'exception ' . ($_[0] =~ /(thrown)/ ? $1 : '?') },
        on_fail => sub { push @events, 'failed' },
    });
    $set->wait(timeout => 10);
    return join ', ', @events;
}
print "$_: ", events($_), "\n" for qw(talk fail);

my $right = 0;
my $many = $client->new_task_set;
for my $number (1 .. 20) {
    my $payload = "job $number";
    $many->add_task('reverse', $payload, {on_complete => sub { $right++ if ${$_[0]} eq reverse $payload }});
}
$many->wait(timeout => 10);
print "many: $right\n";
print 'throw: ', events('throw'), "\n";
