<?php
// PHP's gearman extension, which stands on libgearman: no task of it is without a payload.
$port = (int) $argv[1];
function connect(int $port): GearmanClient {
    $client = new GearmanClient();
    $client->addServer('127.0.0.1', $port);
    $client->setTimeout(10000);
    return $client;
}
$client = connect($port);
$check = fn($result, $payload) => $result === strrev($payload) ? 'ok' : 'wrong';

$bytes = implode('', array_map('chr', range(0, 255)));
echo 'binary: ', $check($client->doNormal('reverse', $bytes), $bytes), "\n";
echo 'high: ', $check($client->doHigh('reverse', 'high'), 'high'), "\n";
echo 'low: ', $check($client->doLow('reverse', 'low'), 'low'), "\n";

$handle = $client->doBackground('parked', 'x');
echo 'background: ', $client->jobStatus($handle)[0] ? 'known' : 'unknown', "\n";

// The events of tasks, in the order they came.
function events(int $port, array $tasks): array {
    $client = connect($port);
    $events = [];
    $client->setExceptionCallback(function ($task) use (&$events) { $events[] = 'exception ' . $task->data(); });
    $client->setStatusCallback(function ($task) use (&$events) {
        $events[] = 'status ' . $task->taskNumerator() . '/' . $task->taskDenominator();
    });
    $client->setDataCallback(function ($task) use (&$events) { $events[] = 'data ' . $task->data(); });
    $client->setWarningCallback(function ($task) use (&$events) { $events[] = 'warning ' . $task->data(); });
    $client->setCompleteCallback(function ($task) use (&$events) { $events[] = 'complete ' . $task->data(); });
    $client->setFailCallback(function ($task) use (&$events) { $events[] = 'failed'; });
    foreach ($tasks as [$function, $payload]) {
        $client->addTask($function, $payload);
    }
    $client->runTasks();
    return $events;
}

// Two tasks of one unique on one connection it cannot tell apart.
$unique = 'php-' . getmypid();
$client->doBackground('count', 'x', $unique);
$runs = connect($port)->doNormal('count', 'x', $unique);
echo 'unique: ', $runs === '1' ? 'same' : "run $runs times", "\n";

$one = fn($function) => "$function: " . implode(', ', events($port, [[$function, 'x']])) . "\n";
echo $one('talk'), $one('fail');

$tasks = $expected = [];
for ($number = 0; $number < 20; $number++) {
    $tasks[] = ['reverse', "job $number"];
    $expected[] = 'complete ' . strrev("job $number");
}
$right = array_intersect($expected, events($port, $tasks));
echo 'many: ', count($right), "\n";
echo $one('throw');
