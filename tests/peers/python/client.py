"""pygearman's client. It waits for a job only when it is told how long; it asks for no exceptions."""
import os
import sys

import gearman

server = "127.0.0.1:" + sys.argv[1]
client = gearman.GearmanClient([server])
WAIT = dict(poll_timeout=10.0)


def say(what, outcome):
    print(f"{what}: {outcome}", flush=True)


def is_reversed(payload, **options):
    request = client.submit_job("reverse", payload, **options, **WAIT)
    return "ok" if request.result == payload[::-1] else f"wrong {request.result!r}"


say("binary", is_reversed(bytes(range(256))))
say("empty", is_reversed(b""))
say("high", is_reversed(b"high", priority=gearman.PRIORITY_HIGH))
say("low", is_reversed(b"low", priority=gearman.PRIORITY_LOW))

parked = client.submit_job("parked", b"x", background=True, wait_until_complete=False, **WAIT)
parked = client.get_job_status(parked, **WAIT)
say("background", "known" if parked.status["known"] else "unknown")

# It keeps one request a handle: two jobs of one unique need two clients.
other = gearman.GearmanClient([server])
unique = f"python-{os.getpid()}"
requests = [
    each.submit_job("count", b"", unique=unique, wait_until_complete=False, **WAIT) for each in (client, other)
]
for each, request in zip((client, other), requests):
    each.wait_until_jobs_completed([request], **WAIT)
counts = [request.result for request in requests]
say("unique", "same" if counts[0] and counts[0] == counts[1] else f"different {counts}")


def events_of(function):
    request = client.submit_job(function, b"", **WAIT)
    events = []
    if request.status.get("denominator"):
        events.append(f"status {request.status['numerator']}/{request.status['denominator']}")
    events += [f"data {part.decode()}" for part in request.data_updates]
    events += [f"warning {part.decode()}" for part in request.warning_updates]
    if request.exception:
        events.append(f"exception {request.exception.decode()}")
    if request.state == gearman.JOB_COMPLETE:
        events.append(f"complete {request.result.decode()}")
    elif request.state == gearman.JOB_FAILED:
        events.append("failed")
    return ", ".join(events)


say("talk", events_of("talk"))
say("fail", events_of("fail"))

jobs = [dict(task="reverse", data=f"job {number}".encode(), unique=None) for number in range(20)]
done = client.submit_multiple_jobs(jobs, **WAIT)
say("many", sum(request.result == request.job.data[::-1] for request in done))
say("throw", events_of("throw"))
