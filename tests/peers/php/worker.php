<?php
// PHP's gearman extension. Time limits are in the unit of the job server: milliseconds.
$worker = new GearmanWorker();
$worker->addServer('127.0.0.1', (int) $argv[1]);
$runs = 0;
$worker->addFunction('reverse', fn($job) => strrev($job->workload()));
$worker->addFunction('talk', function ($job) {
    $job->sendStatus(1, 2);
    $job->sendData('part');
    $job->sendWarning('careful');
    return 'done';
});
$worker->addFunction('fail', function ($job) { $job->sendFail(); });
$worker->addFunction('throw', function ($job) { $job->sendException('thrown'); });
$worker->addFunction('count', function ($job) use (&$runs) {
    usleep(1000000);
    return (string) ++$runs;
});
$limited = fn($job) => 'in time';
$context = null;
$worker->addFunction('limited', $limited, $context, 60000);
while (true) {
    @$worker->work();
    if (in_array($worker->returnCode(), [GEARMAN_NO_SERVERS, GEARMAN_COULD_NOT_CONNECT, GEARMAN_LOST_CONNECTION], true)) {
        exit(1);
    }
}
