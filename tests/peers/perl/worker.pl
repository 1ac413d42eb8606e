# Gearman::Worker. An empty result it sends without the NUL before it, which gearmand waits for. Its time limits are in seconds,
# and are taken for milliseconds. It sends WORK_FAIL after WORK_EXCEPTION, and does not survive the ERROR that follows.
use strict;
use warnings;
use Gearman::Worker;

my $worker = Gearman::Worker->new(job_servers => ["127.0.0.1:$ARGV[0]"]);
my $runs = 0;
$worker->register_function(reverse => sub { my $payload = $_[0]->arg; scalar reverse $payload });
$worker->register_function(talk => sub {
    my ($job) = @_;
    $job->set_status(1, 2);
    $worker->send_work_data($job, 'part');
    $worker->send_work_warning($job, 'careful');
    'done';
});
$worker->register_function(fail => sub { undef });
$worker->register_function(throw => sub { die "thrown\n" });
$worker->register_function(count => sub { select undef, undef, undef, 1; ++$runs });
$worker->register_function('limited', 60, sub { 'in time' });
$worker->work while 1;
