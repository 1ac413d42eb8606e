// The client of abraxas. Whatever it does goes over one connection, text commands, too.
const { Client } = require('abraxas');
const server = { host: '127.0.0.1', port: Number(process.argv[2]) };
const connect = () => new Promise((resolve) => {
  const client = Client.connect(server, () => resolve(client));
});
const bytes = (value) => Buffer.from(value === undefined || Array.isArray(value) ? '' : value);
const text = (value) => bytes(value).toString('latin1');
// It lets node end while it waits for a status.
setInterval(() => {}, 1000);

(async () => {
  const client = await connect();
  const submit = (name, payload, options = {}, from = client) => from.submitJob(name, options, payload);
  const reversed = async (payload, options) => {
    const result = bytes(await submit('reverse', payload, options));
    return bytes(payload).reverse().equals(result) ? 'ok' : `wrong ${text(result)}`;
  };

  console.log('binary:', await reversed(Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))));
  console.log('empty:', await reversed(Buffer.alloc(0)));
  console.log('high:', await reversed('high', { priority: 'high' }));
  console.log('low:', await reversed('low', { priority: 'low' }));

  const parked = await client.submitJobBg('parked', 'x');
  const known = await new Promise((resolve) => client.getStatus(text(parked), (_, status) => resolve(status.known)));
  console.log('background:', known ? 'known' : 'unknown');

  // On one connection it cannot tell two jobs of one handle apart.
  const other = await connect();
  const unique = { uniqueid: `abraxas-${process.pid}` };
  const [first, second] = await Promise.all([client, other].map((from) => submit('count', Buffer.alloc(0), unique, from)));
  console.log('unique:', text(first) === text(second) ? 'same' : `different ${text(first)} ${text(second)}`);
  other.disconnect();

  const events = async (name) => {
    const task = submit(name, 'x');
    const seen = [];
    task.on('status', (share) => seen.push(`status ${share}`));
    task.on('warn', (warning) => seen.push(`warning ${text(warning)}`));
    const thrown = (error) => (error.name === 'JobFail' ? 'failed' : `exception ${error.message}`);
    await task.then((result) => seen.push(`complete ${text(result)}`), (error) => seen.push(thrown(error)));
    return seen.join(', ');
  };
  for (const name of ['talk', 'fail']) console.log(`${name}:`, await events(name));

  const payloads = Array.from({ length: 20 }, (_, number) => `job ${number}`);
  const results = await Promise.all(payloads.map((payload) => reversed(payload)));
  console.log('many:', results.filter((result) => result === 'ok').length);
  console.log('throw:', await events('throw'));
  process.exit(0);
})();
