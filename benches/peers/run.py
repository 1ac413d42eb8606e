#!/usr/bin/env python3
"""Whole processes beside peers: Gearwheel's bench_client, bench_worker and bench_server, libgearman, and raw bytes.

usage: run.py [--reps N] [--secs S] [--only TEXT] [--size BYTES] [--runtime NAME]

Needs gearmand (or GEARMAND=path), a C compiler and libgearman's headers (Debian: gearman-job-server, libgearman-dev, gcc);
builds what it runs. Each run has a fresh server on a free port of 127.0.0.1. Repetitions are the outermost loop, so that the
drift of a shared machine falls on all alike; medians are printed, and what each is to `raw` of the same row. Only figures of
one run of this script can be compared.
"""
import argparse, json, os, shutil, signal, socket, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
DEADLINE = 60

# What it is called, who is measured (the others are raw and gearmand), mode, depth.
ROWS = [
    ('client, depth 1', 'client', 'fg', 1),
    ('client, depth 64', 'client', 'fg', 64),
    ('client, depth 1024', 'client', 'fg', 1024),
    ('background, depth 64', 'client', 'bg', 64),
    ('worker, depth 1', 'worker', 'fg', 1),
    ('worker, depth 64', 'worker', 'fg', 64),
    ('worker, 16 grabs, one thread, depth 64', 'prefetch', 'fg', 64),
    ('worker, 16 grabs, 16 threads, depth 64', 'concurrency', 'fg', 64),
    ('both, depth 64', 'both', 'fg', 64),
    ('server, depth 1', 'server', 'fg', 1),
    ('server, depth 64', 'server', 'fg', 64),
    ('server, 16 grabs, depth 1024', 'server-grabs', 'fg', 1024),
]

SERVERS = ['gearmand', 'gearmand -t 0', 'gearwheel']
# floor.c, which takes small payloads only.
FLOORS = ['the system calls alone', 'the same, 16 results a write']
FLOOR_SIZE = 64


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def build(runtime):
    """The commands, by name."""
    features = ','.join(sorted({'mio', runtime} - {'blocking'}))
    examples = [word for name in ('client', 'worker', 'server') for word in ('--example', f'bench_{name}')]
    subprocess.run(['cargo', 'build', '--release', '--locked', '--features', features, *examples], cwd=ROOT, check=True)
    target = json.loads(subprocess.run(['cargo', 'metadata', '--format-version', '1', '--no-deps'], cwd=ROOT, check=True,
                                       capture_output=True).stdout)['target_directory']
    peers = os.path.join(target, 'peers')
    compiler = [os.environ.get('CC', 'cc'), '-O2', '-o']
    subprocess.run([*compiler, peers, f'{HERE}/peers.c', '-lgearman'], check=True)
    subprocess.run([*compiler, f'{peers}-floor', f'{HERE}/floor.c'], check=True)
    return built(target)


def built(target):
    """The commands that are in a target directory, by name."""
    peers = os.path.join(target, 'peers')
    gearmand = os.environ.get('GEARMAND') or next(filter(os.path.exists, ['/usr/sbin/gearmand']), None) or shutil.which('gearmand')
    if not gearmand:
        sys.exit('gearmand is not installed')
    ours = {name: [f'{target}/release/examples/bench_{name}'] for name in ('client', 'worker', 'server')}
    return {
        'raw': {'client': [peers, 'raw', 'client'], 'worker': [peers, 'raw', 'worker']},
        'libgearman': {'client': [peers, 'libgearman', 'client'], 'worker': [peers, 'libgearman', 'worker']},
        'gearwheel': ours,
        'gearmand': gearmand_of(gearmand, 4),
        'gearmand -t 0': gearmand_of(gearmand, 0),
        'the system calls alone': {'server': [f'{peers}-floor']},
        'the same, 16 results a write': {'server': ['env', 'BATCH=16', f'{peers}-floor']},
    }


def gearmand_of(gearmand, threads):
    return {'server': [gearmand, '-L', '127.0.0.1', '-t', str(threads), '-l', 'stderr', '--verbose', 'ERROR', '-p']}


class Server:
    def __init__(self, command, ours):
        port = free_port()
        self.address = f'127.0.0.1:{port}'
        environment = dict(os.environ, GEARMAN_ADDR=self.address, RUNTIME='mio')
        command = command if ours else [*command, str(port)]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.time() + DEADLINE
        while True:
            try:
                self.admin = socket.create_connection(('127.0.0.1', port), 1)
                self.lines = self.admin.makefile('rb')
                return
            except OSError:
                if time.time() > end or self.process.poll() is not None:
                    raise
                time.sleep(0.01)

    def wait_for_worker(self):
        end = time.time() + DEADLINE
        while time.time() < end:
            self.admin.sendall(b'status\n')
            lines = iter(lambda: self.lines.readline().strip(), b'.')
            if any(line.split(b'\t')[0] == b'bench' and int(line.split(b'\t')[3]) > 0 for line in list(lines)):
                return
            time.sleep(0.01)
        raise RuntimeError('no worker came')

    def cpu_us(self):
        threads = f'/proc/{self.process.pid}/task'
        return sum(int(open(f'{threads}/{thread}/schedstat').read().split()[0]) for thread in os.listdir(threads)) / 1000

    def stop(self):
        self.admin.close()
        self.process.terminate()
        self.process.wait(DEADLINE)


def measure(server, ours, client, worker, settings, mode):
    """One run: jobs/s, and CPU time a job of the client, the worker and the server."""
    server = Server(server, ours)
    running = None
    try:
        environment = dict(os.environ, GEARMAN_ADDR=server.address, FUNC='bench', **settings)
        if mode == 'fg':
            running = subprocess.Popen(worker, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            server.wait_for_worker()
        before = server.cpu_us()
        done = subprocess.run(client, env=environment, stdout=subprocess.PIPE, timeout=DEADLINE, check=True)
        line = json.loads(done.stdout)
        found = {'jobs/s': line['jobs'] / line['secs'], 'client': line['cpu_us_per_job'],
                 'server': (server.cpu_us() - before) / line['jobs']}
        if running:
            running.send_signal(signal.SIGTERM)
            found['worker'] = json.loads(running.communicate(timeout=DEADLINE)[0])['cpu_us_per_job']
        return found
    finally:
        if running and running.poll() is None:
            running.kill()
            running.wait()
        server.stop()


def runs_of(row, peers, options):
    """Who runs in a row: a name, and what `measure` wants."""
    what, who, mode, depth = row
    settings = dict(SECS=str(options.secs), DEPTH=str(depth), SIZE=str(options.size), MODE=mode, RUNTIME=options.runtime)
    raw, gearmand = peers['raw'], peers['gearmand']['server']
    if who.startswith('server'):
        grabs = {'GRABS': '16'} if who == 'server-grabs' else {}
        for name in SERVERS + (FLOORS if options.size <= FLOOR_SIZE else []):
            server = peers[name]['server']
            yield name, (server, not name.startswith('gearmand'), raw['client'], raw['worker'], {**settings, **grabs}, mode)
        return
    for name in 'raw', 'libgearman', 'gearwheel':
        client = peers[name]['client'] if who in ('client', 'both') else raw['client']
        worker = peers[name]['worker'] if who != 'client' else raw['worker']
        extra = {}
        if who == 'client' and depth > 1:
            extra = {'GRABS': '16'}  # else the worker is the limit
        elif who == 'prefetch':
            extra = {'GRABS': '16', 'PREFETCH': '15'}
        elif who == 'concurrency':
            extra = {'GRABS': '16', 'CONCURRENCY': '16'}
        yield name, (gearmand, False, client, worker, {**settings, **extra}, mode)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--reps', type=int, default=5)
    parser.add_argument('--secs', type=float, default=1.0)
    parser.add_argument('--only', default='', help='rows with this in their names')
    parser.add_argument('--size', type=int, default=16, help='bytes of payload')
    parser.add_argument('--runtime', default='blocking', help="of Gearwheel's client and worker")
    options = parser.parse_args()
    peers = build(options.runtime)
    rows = [row for row in ROWS if options.only in row[0]]
    found = {}
    for repetition in range(options.reps):
        for row in rows:
            for name, run in runs_of(row, peers, options):
                try:
                    found.setdefault((row[0], name), []).append(measure(*run))
                except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
                    print(f'{row[0]}, {name}: {error}', file=sys.stderr)
        print(f'repetition {repetition + 1} of {options.reps}', file=sys.stderr)
    columns = ('jobs/s', 'client', 'worker', 'server')
    print('| what | who | jobs/s | to the first | CPU us a job: client | worker | server |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |')
    for row in rows:
        first = None
        for name, _ in runs_of(row, peers, options):
            runs = found.get((row[0], name), [])
            if not runs:
                print(f'| {row[0]} | {name} | failed | | | | |')
                continue
            medians = {c: statistics.median([run[c] for run in runs]) for c in columns if c in runs[0]}
            first = first or medians['jobs/s']
            cpu = ' | '.join(f'{medians[c]:.2f}' if c in medians else '' for c in columns[1:])
            print(f'| {row[0]} | {name} | {medians["jobs/s"]:,.0f} | {medians["jobs/s"] / first:.2f} | {cpu} |')


if __name__ == '__main__':
    main()
