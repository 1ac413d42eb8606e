#!/usr/bin/env python3
"""What the embedded server (on mio) holds and what that costs: resident memory, and the latency and CPU time of one job
after another beside it, with raw bytes at both ends.

usage: grow.py [--reps N] [--secs S] [--only TEXT] [--smoke]

Each figure has a fresh server. Memory and CPU time are medians over the repetitions, of which each measures every row once;
latencies are the best of them, as a shared machine adds to them. `to the empty` compares with the server of the same run
that holds nothing. Needs a limit of some 10,100 open files.
"""
import argparse, resource, socket, statistics, struct, subprocess, sys

import measure

CAN_DO, PRE_SLEEP, SUBMIT_JOB_BG = 1, 4, 18


def packet(kind, *arguments):
    body = b'\0'.join(arguments)
    return b'\0REQ' + struct.pack('>II', kind, len(body)) + body


def dial(server):
    host, port = server.address.split(':')
    return socket.create_connection((host, int(port)), measure.DEADLINE)


def settle(server):
    """Waits until the server has done what came before: it answers in turn."""
    server.admin.sendall(b'version\n')
    server.line()


def connections(server, number):
    """Sleeping workers of a function that has no jobs."""
    held = []
    for _ in range(number):
        held.append(dial(server))
        held[-1].sendall(packet(CAN_DO, b'other') + packet(PRE_SLEEP))
        if len(held) % 500 == 0:
            settle(server)
    return held


def jobs(server, number, functions=1):
    """Background jobs with payloads of 16 bytes, over so many functions."""
    with dial(server) as client:
        left = number
        for function in range(functions):
            share = left // (functions - function)
            left -= share
            job = packet(SUBMIT_JOB_BG, b'other%d' % function, b'', b'x' * 16)
            while share > 0:
                some = min(share, 1_000)
                client.sendall(job * some)
                created = 0
                tail = b''
                while created < some:
                    tail += client.recv(1 << 16)
                    while len(tail) >= 12 and len(tail) >= 12 + struct.unpack('>I', tail[8:12])[0]:
                        tail = tail[12 + struct.unpack('>I', tail[8:12])[0]:]
                        created += 1
                share -= some


def functions(server, number):
    """Functions that one worker can run."""
    worker = dial(server)
    worker.sendall(b''.join(packet(CAN_DO, b'other%d' % function) for function in range(number)) + packet(PRE_SLEEP))
    settle(server)
    return worker


ROWS = [
    ('nothing', 0, lambda server: None),
    *[(f'{number:,} idle connections', number, lambda server, number=number: connections(server, number))
      for number in (1, 10, 100, 1_000, 10_000)],
    *[(f'{number:,} queued jobs', number, lambda server, number=number: jobs(server, number))
      for number in (10, 100, 1_000, 10_000, 100_000, 1_000_000)],
    ('1,000,000 queued jobs over 1,000 functions', 1_000_000, lambda server: jobs(server, 1_000_000, 1_000)),
    *[(f'{number:,} functions', number, lambda server, number=number: functions(server, number))
      for number in (1, 10, 100, 1_000, 10_000)],
]


def measured(peers, fill, secs):
    """Kilobytes that what it holds takes, and of the jobs beside it: their mean latency, and the server's CPU time each."""
    with measure.Server(peers['gearwheel']['server']) as server:
        settle(server)
        before = server.resident_kb()
        held = fill(server)
        settle(server)
        grown = server.resident_kb() - before
        environment = measure.told(server.address, {'SECS': secs, 'DEPTH': 1, 'SIZE': 16, 'MODE': 'fg'})
        found = measure.foreground(server, peers['raw']['client'], peers['raw']['worker'], environment)
        del held  # which has the server close connections
        return grown, 1e6 / found['jobs/s'], found['server CPU']


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--reps', type=int, default=5)
    parser.add_argument('--secs', type=float, default=0.5)
    parser.add_argument('--only', default='', help='rows with this in their names')
    parser.add_argument('--smoke', action='store_true', help='the small rows for a moment, not optimised: to see that they work')
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    measure.require(may_pass_over=options.smoke)
    peers = measure.build('blocking', optimised=not options.smoke)
    rows = [row for row in ROWS if options.only in row[0] or row[0] == 'nothing']
    if options.smoke:
        options.reps, options.secs, rows = 1, measure.MOMENT, [row for row in rows if row[1] <= 10]
    found = {}
    for repetition in range(options.reps):
        for name, _, fill in rows:
            try:
                found.setdefault(name, []).append(measured(peers, fill, options.secs))
            except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
                print(f'{name}: {error}', file=sys.stderr)
        print(f'repetition {repetition + 1} of {options.reps}', file=sys.stderr)
    print('| the server holds | memory, KiB | bytes each | us a job | to the empty | CPU us a job | to the empty |')
    print('| --- | ---: | ---: | ---: | ---: | ---: | ---: |')
    empty = None
    for name, number, _ in rows:
        memory, latencies, times = zip(*found[name])
        grown, took, cpu = statistics.median(memory), min(latencies), statistics.median(times)
        empty = empty or (took, cpu)
        each = f'{grown * 1024 / number:,.0f}' if number else ''
        print(f'| {name} | {grown:,.0f} | {each} | {took:.1f} | {took / empty[0]:.2f} | {cpu:.1f} | {cpu / empty[1]:.2f} |')


if __name__ == '__main__':
    main()
