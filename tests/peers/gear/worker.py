"""The worker of OpenStack's gear, which grabs with GRAB_JOB_UNIQ. A time limit must be given as it goes out: bytes."""
import sys
import time

import gear

runs = 0


def reverse(job):
    job.sendWorkComplete(job.arguments[::-1])


def talk(job):
    job.sendWorkStatus(1, 2)
    job.sendWorkData(b"part")
    job.sendWorkWarning(b"careful")
    job.sendWorkComplete(b"done")


def fail(job):
    job.sendWorkFail()


def throw(job):
    job.sendWorkException(b"thrown")


def count(job):
    global runs
    time.sleep(1)
    runs += 1
    job.sendWorkComplete(str(runs).encode())


def limited(job):
    job.sendWorkComplete(b"in time")


functions = {function.__name__: function for function in (reverse, talk, fail, throw, count, limited)}
worker = gear.Worker("gear-worker")
worker.addServer("127.0.0.1", int(sys.argv[1]))
worker.waitForServer()
for name in functions:
    worker.registerFunction(name, b"60000" if name == "limited" else None)
while True:
    job = worker.getJob()
    functions[job.name](job)
