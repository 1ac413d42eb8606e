"""pygearman's worker. Function names must be bytes; it has no time limits."""
import sys
import time

import gearman


class Worker(gearman.GearmanWorker):
    runs = 0

    def on_job_exception(self, job, exc_info):
        # It says WORK_FAIL by itself, and offers WORK_EXCEPTION to those who want it.
        if str(exc_info[1]) == "thrown":
            self.send_job_exception(job, b"thrown")
            return False
        return super().on_job_exception(job, exc_info)


def talk(worker, job):
    worker.send_job_status(job, 1, 2)
    worker.send_job_data(job, b"part")
    worker.send_job_warning(job, b"careful")
    return b"done"


def fail(worker, job):
    raise ValueError("failed")


def throw(worker, job):
    raise ValueError("thrown")


def count(worker, job):
    time.sleep(1)
    worker.runs += 1
    return str(worker.runs).encode()


worker = Worker(["127.0.0.1:" + sys.argv[1]])
worker.register_task(b"reverse", lambda worker, job: job.data[::-1])
for function in (talk, fail, throw, count):
    worker.register_task(function.__name__.encode(), function)
worker.work(poll_timeout=1.0)
