"""What is measured beside what, and what was aimed at."""
from typing import NamedTuple

from measure import Run

MIB = 1 << 20
# floor.c takes small payloads only.
FLOOR_SIZE = 64
# With a longer queue gearmand is slower, which would be measured instead: with 100,000 jobs it took four to
# ten times the CPU time.
QUEUED = 20_000

PREFETCH = 'gearwheel, prefetch'
CONCURRENCY = 'gearwheel, concurrency'
FLOOR = 'the system calls alone'
FLOOR_BATCH = f'{FLOOR}, 16 results a write'


class Row(NamedTuple):
    """The first of its runs is what the others are compared with."""
    section: str
    name: str
    runs: list
    # Does not depend on what else the machine does.
    once: bool = False


class Target(NamedTuple):
    """What `who` of `row` should come to in a column: a multiple of what another does there, or the figure itself."""
    row: str
    who: str
    column: str
    relation: str
    bound: float
    other: tuple | None


def rows(options):
    """All of them, for the options of run.py."""
    def told(**settings):
        return {'SECS': options.secs, 'SIZE': options.size, 'RUNTIME': options.runtime, 'MODE': 'fg', **settings}

    def jobs(number):
        return number // 20 if options.smoke else number

    return [*clients(told), *workers(told), *drains(told, jobs(QUEUED)), *pairs(told), *large(told), *servers(told),
            *memory(told, jobs), *instructions(told, jobs)]


def clients(told):
    """On a raw worker, which keeps 16 grabs outstanding where it would be the limit."""
    for depth, grabs in (1, 1), (64, 16), (1024, 16):
        settings = told(DEPTH=depth, GRABS=grabs)
        yield Row('Clients', f'client, depth {depth}', [Run(who, settings, client=who) for who in
                                                        ('raw', 'libgearman', 'gearman-rs', 'gearwheel')])
    settings = told(DEPTH=64, MODE='bg')
    yield Row('Clients', 'background, depth 64', [Run(who, settings, client=who, kind='background') for who in
                                                  ('raw', 'libgearman', 'gearman-rs', 'gearwheel')])


def workers(told):
    """For a raw client. gearman-rs 0.2.0 takes 44 ms a job, whatever the depth."""
    one = told(DEPTH=1)
    yield Row('Workers', 'worker, depth 1', [Run(who, one, worker=who) for who in
                                             ('raw', 'libgearman', 'gearman-rs', 'gearwheel')])
    yield Row('Workers', 'worker, depth 64', [Run(who, told(DEPTH=64), worker=who) for who in
                                              ('raw', 'libgearman', 'gearwheel')])
    yield Row('Workers', 'worker, 16 grabs, depth 64', sixteen(told, DEPTH=64))


def drains(told, number):
    yield Row('Draining a queue', 'drain, one grab', [Run(who, told(N=number), worker=who, kind='drain') for who in
                                                      ('raw', 'libgearman', 'gearwheel')])
    yield Row('Draining a queue', 'drain, 16 grabs', [run._replace(kind='drain') for run in sixteen(told, N=number)])


def sixteen(told, **settings):
    """Workers with 16 grabs outstanding: on one thread, the one job that runs among them, or on 16."""
    return [Run('raw', told(GRABS=16, **settings)),
            Run(PREFETCH, told(PREFETCH=15, **settings), worker='gearwheel'),
            Run(CONCURRENCY, told(CONCURRENCY=16, **settings), worker='gearwheel')]


def pairs(told):
    yield Row('Client and worker of one kind', 'both, depth 64', [
        *[Run(who, told(DEPTH=64), client=who, worker=who) for who in ('raw', 'libgearman', 'gearwheel')],
        Run(PREFETCH, told(DEPTH=64, PREFETCH=16), client='gearwheel', worker='gearwheel')])


def large(told):
    """libgearman takes half a second for 1 MiB; gearman-rs refuses 64 MiB."""
    mib = told(SIZE=MIB, DEPTH=1)
    yield Row('Large payloads', '1 MiB, client', [Run(who, mib, client=who) for who in
                                                  ('raw', 'libgearman', 'gearman-rs', 'gearwheel')])
    yield Row('Large payloads', '1 MiB, worker', [Run(who, mib, worker=who) for who in ('raw', 'libgearman', 'gearwheel')])
    yield Row('Large payloads', '1 MiB, both', [Run(who, mib, client=who, worker=who) for who in ('raw', 'gearwheel')])
    one = told(SIZE=64 * MIB, DEPTH=1, N=1, SECS=10)
    yield Row('Large payloads', '64 MiB, both', [Run(who, one, client=who, worker=who) for who in ('raw', 'gearwheel')])


def servers(told):
    """With raw at both ends."""
    for name, settings in [('depth 1', told(DEPTH=1)), ('depth 64', told(DEPTH=64)),
                           ('16 grabs, depth 1024', told(DEPTH=1024, GRABS=16))]:
        runs = [Run(who, settings, server=who) for who in ('gearmand', 'gearmand -t 0', 'gearwheel')]
        if settings['SIZE'] <= FLOOR_SIZE:
            runs += [Run(FLOOR, settings, server=FLOOR), Run(FLOOR_BATCH, {**settings, 'BATCH': 16}, server=FLOOR)]
        yield Row('Job servers', f'server, {name}', runs)


def memory(told, jobs):
    """libgearman had not submitted 100,000 jobs within a minute: what a job costs it grows with the number of them."""
    all, some = told(N=jobs(100_000)), told(N=jobs(20_000))
    runs = [Run(who, all, client=who, kind='held by the client') for who in ('raw', 'gearman-rs', 'gearwheel')]
    runs.insert(1, Run('libgearman, of 20,000', some, client='libgearman', kind='held by the client'))
    yield Row('Memory', 'held by a client, of 100,000 jobs', runs, once=True)
    queued = told(N=all['N'], MODE='bg', DEPTH=64, SECS=10)
    yield Row('Memory', 'held by a server, of 100,000 jobs', [Run(who, queued, server=who, kind='held by the server')
                                                              for who in ('gearmand', 'gearwheel')], once=True)


def instructions(told, jobs):
    for depth in 1, 64, 1024:
        settings = told(N=jobs(max(1000, 2 * depth)), DEPTH=depth)
        yield Row('Instructions', f'instructions, depth {depth}, client', [
            Run(who, settings, client=who, kind='instructions of the client') for who in
            ('raw', 'libgearman', 'gearman-rs', 'gearwheel')], once=True)
    settings = told(N=jobs(1000), DEPTH=1)
    yield Row('Instructions', 'instructions, depth 1, worker', [
        Run(who, settings, worker=who, kind='instructions of the worker') for who in ('raw', 'libgearman', 'gearwheel')],
        once=True)


def targets(options):
    """What the rows can judge."""
    def ours(row, column, relation, bound, other='raw', who='gearwheel'):
        return Target(row, who, column, relation, bound, other and (other if isinstance(other, tuple) else (row, other)))

    found = [ours('client, depth 1', 'jobs/s', '>=', 0.92)]
    if options.runtime == 'blocking':
        found += [ours('client, depth 1', 'client CPU', '<=', 1.3)]
        found += [ours(f'client, depth {depth}', 'client CPU', '<=', 1.2) for depth in (64, 1024)]
    else:
        found += [ours('client, depth 1', 'p50 us', '<=', 1, 'gearman-rs')]
        found += [ours(f'client, depth {depth}', 'client CPU', '<=', bound, other) for depth in (64, 1024)
                  for bound, other in ((1.6, 'raw'), (1, 'gearman-rs'))]
    found += [ours('background, depth 64', 'jobs/s', '>=', 0.9), ours('worker, depth 64', 'jobs/s', '>=', 0.92)]
    for who in PREFETCH, CONCURRENCY:
        found += [ours('drain, 16 grabs', 'jobs/s', '>=', 0.85, who=who),
                  ours('drain, 16 grabs', 'jobs/s', '>=', 10, ('drain, one grab', 'libgearman'), who)]
    found += [ours('both, depth 64', 'jobs/s', '>=', 4, 'libgearman', who) for who in ('gearwheel', PREFETCH)]
    found += [ours(f'1 MiB, {what}', 'MB/s', '>=', 0.95) for what in ('client', 'worker', 'both')]
    return found + [
        ours('64 MiB, both', 'p50 us', 'works', None, None),
        ours('server, depth 1', 'server CPU', '<=', 0.5, 'gearmand -t 0'),
        ours('server, depth 64', 'server CPU', '<=', 0.25, 'gearmand'),
        ours('server, depth 64', 'jobs/s', '>=', 1, ('server, depth 1', 'gearwheel')),
        ours('server, 16 grabs, depth 1024', 'jobs/s', '>=', 1, ('server, depth 64', 'gearwheel')),
        ours('server, 16 grabs, depth 1024', 'server CPU', '<=', 3, None),
        ours('held by a client, of 100,000 jobs', 'bytes a job', '<=', 400, None),
        ours('held by a server, of 100,000 jobs', 'bytes a job', '<=', 200, None),
        ours('instructions, depth 1, client', 'instructions a job', '<=', 4000, None),
        ours('instructions, depth 1, worker', 'instructions a job', '<=', 3000, None),
    ]
