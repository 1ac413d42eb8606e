"""What run.py and grow.py measure with: the commands, a job server, a worker, and one run of them."""
import functools, json, os, shutil, signal, socket, subprocess, sys, tempfile, time
from typing import NamedTuple

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PACKAGES = ['gearman-job-server', 'libgearman-dev', 'gcc', 'libc6-dev', 'valgrind']
DEADLINE = 60
# Seconds of a run that is only to show that it works.
MOMENT = 0.02
# Between two looks at a queue that is being emptied: a fiftieth of the shortest run, and little for the server to answer.
LOOK = 0.002
# Bytes of payload from which on MB/s say more than jobs/s.
LARGE = 1 << 16
# What peers are told by the environment; what else is in it must not tell them.
TOLD = ('GEARMAN_ADDR', 'FUNC', 'SECS', 'N', 'DEPTH', 'SIZE', 'MODE', 'RUNTIME', 'GRABS', 'PREFETCH', 'CONCURRENCY', 'BATCH')


class Run(NamedTuple):
    """Who is measured in a row, and what runs: names of commands, and what they are told."""
    who: str
    settings: dict
    client: str = 'raw'
    worker: str = 'raw'
    server: str = 'gearmand'
    kind: str = 'jobs'


def require(install=False, may_pass_over=False):
    """That there is what cannot be built here. As with the tests, what is missing is passed over by a mere check, but in CI."""
    if install and missing():
        sudo = [] if os.getuid() == 0 else ['sudo']
        subprocess.run([*sudo, 'apt-get', '-qq', 'update'], check=True)
        subprocess.run([*sudo, 'apt-get', '-qq', 'install', '-y', '--no-install-recommends', *PACKAGES], check=True)
    if missing():
        print(f'missing: {", ".join(missing())} (Debian: {" ".join(PACKAGES)})', file=sys.stderr)
        sys.exit(0 if may_pass_over and not os.environ.get('CI') else 1)


def missing():
    compiler = os.environ.get('CC', 'cc')
    headers = shutil.which(compiler) and subprocess.run(
        [compiler, '-E', '-include', 'libgearman/gearman.h', '-x', 'c', os.devnull], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL).returncode == 0
    there = {'gearmand': gearmand(), "a C compiler with libgearman's headers": headers, 'valgrind': shutil.which('valgrind')}
    return [what for what, found in there.items() if not found]


def gearmand():
    # Debian's /usr/bin/gearmand is another: Perl's.
    return os.environ.get('GEARMAND') or shutil.which('gearmand', path='/usr/sbin') or shutil.which('gearmand')


def build(runtime, optimised=True):
    """The commands, by name. Not optimised, they are what `just test-features` has built already."""
    profile = ['--release'] if optimised else []
    features = ['--features', ','.join(sorted({'mio', runtime} - {'blocking'}))] if optimised else ['--all-features']
    examples = [word for name in ('client', 'worker', 'server') for word in ('--example', f'bench_{name}')]
    cargo = ['cargo', 'build', '--locked', *profile]
    subprocess.run([*cargo, *features, *examples], cwd=ROOT, check=True)
    target = json.loads(subprocess.run(['cargo', 'metadata', '--format-version', '1', '--no-deps'], cwd=ROOT, check=True,
                                       capture_output=True).stdout)['target_directory']
    subprocess.run([*cargo, '--target-dir', f'{target}/gearman-rs'], cwd=f'{HERE}/gearman-rs', check=True)
    compiler = [os.environ.get('CC', 'cc'), '-O2', '-o']
    subprocess.run([*compiler, f'{target}/peers', f'{HERE}/peers.c', '-lgearman'], check=True)
    subprocess.run([*compiler, f'{target}/peers-floor', f'{HERE}/floor.c'], check=True)
    return built(target, 'release' if optimised else 'debug')


def built(target, profile='release'):
    """The commands that are in a target directory, by name."""
    ours = {name: [f'{target}/{profile}/examples/bench_{name}'] for name in ('client', 'worker', 'server')}
    rust = f'{target}/gearman-rs/{profile}/gearman-rs'
    peers = {
        'raw': {name: [f'{target}/peers', 'raw', name] for name in ('client', 'worker')},
        'libgearman': {name: [f'{target}/peers', 'libgearman', name] for name in ('client', 'worker')},
        'gearman-rs': {name: [rust, name] for name in ('client', 'worker')},
        'gearwheel': ours,
        'the system calls alone': {'server': [f'{target}/peers-floor']},
    }
    for name, threads in ('gearmand', 4), ('gearmand -t 0', 0):
        options = ['-L', '127.0.0.1', '-p', '{port}', '-t', str(threads), '-l', 'stderr', '--verbose', 'ERROR']
        peers[name] = {'server': [gearmand(), *options]}
    return peers


def told(address, settings):
    kept = {name: value for name, value in os.environ.items() if name not in TOLD}
    return dict(kept, GEARMAN_ADDR=address, FUNC='bench', **{name: str(value) for name, value in settings.items()})


def wait_until(holds, what):
    end = time.monotonic() + DEADLINE
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(f'{what}: not within {DEADLINE} s')
        time.sleep(LOOK)


class Process:
    """A process that is killed at the end of its `with`."""

    def __init__(self, command, environment):
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def cpu_us(self):
        """Of its threads that live, and of no child."""
        threads = f'/proc/{self.process.pid}/task'
        return sum(int(open(f'{threads}/{thread}/schedstat').read().split()[0]) for thread in os.listdir(threads)) / 1000

    def resident_kb(self):
        return int(open(f'/proc/{self.process.pid}/status').read().split('VmRSS:')[1].split()[0])

    def still(self):
        """Waits until it has nothing more to do."""
        seen = []

        def idle():
            seen.append(self.cpu_us())
            return len(seen) > 100 and seen[-100] == seen[-1]
        wait_until(idle, 'a process at rest')

    def said(self):
        """What it says at SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return json.loads(self.process.communicate(timeout=DEADLINE)[0])


class Server(Process):
    def __init__(self, command, settings={}):
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        self.address = f'127.0.0.1:{port}'
        command = [word.replace('{port}', str(port)) for word in command]
        super().__init__(command, told(self.address, {**settings, 'RUNTIME': 'mio'}))
        try:
            wait_until(lambda: self.connects(port), 'a job server')
        except BaseException:
            super().__exit__()
            raise

    def connects(self, port):
        if self.process.poll() is not None:
            raise RuntimeError('the job server has ended')
        try:
            self.admin = socket.create_connection(('127.0.0.1', port), DEADLINE)
            self.lines = self.admin.makefile('rb')
            return True
        except ConnectionRefusedError:
            return False

    def __exit__(self, *_):
        self.admin.close()
        super().__exit__()

    def line(self):
        line = self.lines.readline()
        if not line:
            raise RuntimeError('the job server has closed')
        return line.strip()

    def status(self):
        """Jobs that are not done, and workers that can run them."""
        self.admin.sendall(b'status\n')
        lines = [line.split(b'\t') for line in iter(self.line, b'.')]
        return next(((int(line[1]), int(line[3])) for line in lines if line[0] == b'bench'), (0, 0))

    def jobs(self):
        return self.status()[0]

    def has_worker(self):
        return self.status()[1] > 0


def measure(run, commands):
    """One run: jobs/s, microseconds, bytes, by name."""
    with Server(commands[run.server]['server'], run.settings) as server:
        client, worker = commands[run.client]['client'], commands[run.worker]['worker']
        environment = told(server.address, run.settings)
        return KINDS[run.kind](server, client, worker, environment)


def submit(client, environment):
    """Runs a client to its end, and what it measured itself: it alone knows when it had connected."""
    done = subprocess.run(client, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=DEADLINE + float(environment['SECS']))
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1:] or done.returncode)
    line = json.loads(done.stdout)
    rate, size = line['jobs'] / line['secs'], int(environment['SIZE'])
    large = {'MB/s': rate * size / 1e6} if size >= LARGE else {}
    return line['jobs'], {'jobs/s': rate, **large, 'p50 us': line['p50_us'],
                          'client CPU': line['cpu_us_per_job']}


def foreground(server, client, worker, environment):
    with Process(worker, environment) as worker:
        wait_until(server.has_worker, 'a worker')
        before = worker.cpu_us(), server.cpu_us()
        jobs, found = submit(client, environment)
        found['worker CPU'] = (worker.cpu_us() - before[0]) / jobs
        found['server CPU'] = (server.cpu_us() - before[1]) / jobs
        answered = worker.said()['jobs']
        if answered != jobs:
            raise RuntimeError(f'the worker answered {answered} of {jobs} jobs')
    return found


def background(server, client, _, environment):
    """Jobs that nobody runs."""
    before = server.cpu_us()
    jobs, found = submit(client, environment)
    return {**found, 'server CPU': (server.cpu_us() - before) / jobs}


def drain(server, client, worker, environment):
    """A queue that was filled first: from the last look at which no job was done to the first at which none is left, or to
    the end of so many seconds."""
    number, seconds = int(environment['N']), float(environment['SECS'])
    submit(client, {**environment, 'MODE': 'bg', 'DEPTH': '64', 'SECS': str(DEADLINE)})
    with Process(worker, environment) as worker:
        def look():
            return time.monotonic(), server.jobs(), worker.cpu_us(), server.cpu_us()
        last = first = look()

        def begun():
            nonlocal first, last
            first, last = last, look()
            return last[1] < number
        wait_until(begun, 'a job done')
        while last[1] and last[0] - first[0] < seconds:
            time.sleep(LOOK)
            last = look()
        took, left, of_worker, of_server = (after - before for before, after in zip(first, last))
        return {'jobs/s': -left / took, 'worker CPU': of_worker / -left, 'server CPU': of_server / -left}


def held_by_client(server, client, _, environment):
    """Bytes of resident memory that a foreground job outstanding takes, the client's own table of jobs included."""
    def resident(number):
        with Process(client, {**environment, 'N': str(number), 'DEPTH': str(number), 'SECS': str(DEADLINE)}) as client_process:
            wait_until(lambda: server.jobs() >= number, f'{number} jobs queued')
            client_process.still()
            return client_process.resident_kb()
    number = int(environment['N'])
    one = resident(1)
    return {'bytes a job': (resident(number) - one) * 1024 / number}


def held_by_server(server, client, _, environment):
    """Bytes of resident memory that a queued background job takes."""
    before = server.resident_kb()
    jobs, _ = submit(client, environment)
    return {'bytes a job': (server.resident_kb() - before) * 1024 / jobs}


def instructions(of, server, client, worker, environment):
    """In user space, of the whole process of a client or a worker: the difference of two runs, which its start is not in."""
    serve = background if environment['MODE'] == 'bg' else foreground

    def total(jobs):
        with tempfile.TemporaryDirectory() as directory:
            counted = ['valgrind', '--tool=callgrind', f'--callgrind-out-file={directory}/found']
            serve(server, counted + client if of == 'client' else client, counted + worker if of == 'worker' else worker,
                  {**environment, 'N': str(jobs), 'SECS': str(DEADLINE)})
            return next(int(line.split()[1]) for line in open(f'{directory}/found') if line.startswith('totals:'))
    few = int(environment['N'])
    return {'instructions a job': (total(3 * few) - total(few)) / (2 * few)}


KINDS = {'jobs': foreground, 'background': background, 'drain': drain, 'held by the client': held_by_client,
         'held by the server': held_by_server, 'instructions of the client': functools.partial(instructions, 'client'),
         'instructions of the worker': functools.partial(instructions, 'worker')}
