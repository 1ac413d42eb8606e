"""The client of OpenStack's gear. It asks for no status: `show jobs`, on the connection of its jobs, tells what is known."""
import os
import sys
import threading

import gear


class Client(gear.Client):
    """Notes what comes of each job, in order."""

    def note(self, packet, handle, event):
        job = handle(packet)
        job.events.append(event(job, packet).strip())
        if job.complete:
            job.ended.set()
        return job

    def handleWorkStatus(self, packet):
        return self.note(packet, super().handleWorkStatus, lambda job, _: "status %s/%s" % (
            job.numerator.decode(), job.denominator.decode()))

    def handleWorkData(self, packet):
        return self.note(packet, super().handleWorkData, lambda _, packet: "data " + text(packet))

    def handleWorkWarning(self, packet):
        return self.note(packet, super().handleWorkWarning, lambda _, packet: "warning " + text(packet))

    def handleWorkComplete(self, packet):
        return self.note(packet, super().handleWorkComplete, lambda _, packet: "complete " + text(packet))

    def handleWorkFail(self, packet):
        return self.note(packet, super().handleWorkFail, lambda *_: "failed")

    def handleWorkException(self, packet):
        return self.note(packet, super().handleWorkException, lambda job, _: "exception " + job.exception.decode())


class Job(gear.Job):
    def __init__(self, name, payload, **options):
        super().__init__(name, payload, **options)
        self.events = []
        self.ended = threading.Event()

    def wait(self):
        assert self.ended.wait(10), f"no end of {self}"
        return self


def text(packet):
    return packet.getArgument(1, True).decode("latin1")


def connect():
    client = Client("gear-client")
    client.addServer("127.0.0.1", int(sys.argv[1]))
    client.waitForServer()
    return client


def say(what, outcome):
    print(f"{what}: {outcome}", flush=True)


def submit(client, name, payload=b"", options={}, **how):
    job = Job(name, payload, **options)
    client.submitJob(job, **how)
    assert job.handle, f"refused: {job}"
    return job


def is_reversed(payload, **how):
    job = submit(client, b"reverse", payload, **how).wait()
    return "ok" if b"".join(job.data) == payload[::-1] else f"wrong {job.data}"


def events_of(name):
    return ", ".join(submit(client, name).wait().events)


client = connect()
assert client.setOption("exceptions")
say("binary", is_reversed(bytes(range(256))))
say("empty", is_reversed(b""))
say("high", is_reversed(b"high", precedence=gear.PRECEDENCE_HIGH))
say("low", is_reversed(b"low", precedence=gear.PRECEDENCE_LOW))

parked = submit(client, b"parked", b"x", background=True)
shown = gear.ShowJobsAdminRequest()
client.getConnection().sendAdminRequest(shown)
say("background", "known" if parked.handle + b"\t" in shown.response else "unknown")

# It keeps one job a handle: two jobs of one unique need two clients.
unique = dict(unique=f"gear-{os.getpid()}".encode())
other = connect()
counts = [submit(each, b"count", options=unique) for each in (client, other)]
counts = [job.wait().data for job in counts]
say("unique", "same" if counts[0] and counts[0] == counts[1] else f"different {counts}")
other.shutdown()

say("talk", events_of(b"talk"))
say("fail", events_of(b"fail"))

jobs = [submit(client, b"reverse", f"job {number}".encode()) for number in range(20)]
say("many", sum(b"".join(job.wait().data) == job.arguments[::-1] for job in jobs))
say("throw", events_of(b"throw"))
client.shutdown()
