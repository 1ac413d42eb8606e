// GearmaNode's client.
const gearmanode = require('./quiet');
const port = Number(process.argv[2]);
const connect = () => gearmanode.client({ host: '127.0.0.1', port });
const client = connect();
// It has one event for all statuses: those of a running job have no `known`.
const text = (value) => (value === undefined ? '' : value.toString('latin1'));

// All events of a job until one of `ends`.
const events = (client, name, payload, options, ends = ['complete', 'failed', 'exception']) =>
  new Promise((resolve) => {
    const job = client.submitJob(name, payload, options);
    const seen = [];
    const note = (event, say) => job.on(event, (value) => {
      seen.push(`${event} ${say(value)}`.trim());
      if (ends.includes(event)) resolve({ job, seen });
    });
    note('created', () => '');
    note('status', (status) => `${status.percent_done_num}/${status.percent_done_den}`);
    note('workData', text);
    note('warning', text);
    note('complete', () => text(job.response));
    note('failed', () => '');
    note('exception', text);
  });

const reversed = async (payload, options) => {
  const { job } = await events(client, 'reverse', payload, options);
  return Buffer.from(payload).reverse().equals(Buffer.from(job.response)) ? 'ok' : 'wrong';
};
const later = (seen) => seen.filter((event) => event !== 'created').join(', ').replace('workData', 'data');

(async () => {
  client.jobServers[0].setOption('exceptions');
  await new Promise((resolve) => client.jobServers[0].once('option', resolve));
  console.log('binary:', await reversed(Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))));
  console.log('empty:', await reversed(''));
  console.log('high:', await reversed('high', { priority: 'HIGH' }));
  console.log('low:', await reversed('low', { priority: 'LOW' }));

  const { job: parked } = await events(client, 'parked', 'x', { background: true }, ['created']);
  parked.getStatus();
  console.log('background:', await new Promise((resolve) => parked.once('status', (s) => resolve(s.known ? 'known' : 'unknown'))));
  parked.close();

  // On one connection it cannot tell two jobs of one handle apart.
  const other = connect();
  const unique = { unique: `node-${process.pid}` };
  const runs = await Promise.all([client, other].map((client) => events(client, 'count', '', unique)));
  const [first, second] = runs.map(({ job }) => text(job.response));
  console.log('unique:', first === second ? 'same' : `different ${first} ${second}`);
  other.close();

  for (const name of ['talk', 'fail']) console.log(`${name}:`, later((await events(client, name, '')).seen));

  const payloads = Array.from({ length: 20 }, (_, number) => `job ${number}`);
  const results = await Promise.all(payloads.map((payload) => reversed(payload)));
  console.log('many:', results.filter((result) => result === 'ok').length);
  console.log('throw:', later((await events(client, 'throw', '')).seen));
  client.close();
  process.exit(0);
})();
