// The worker of abraxas: several jobs at once on one connection, on which it goes to sleep while they run. It sends data
// only to a server of its own, and cannot fail but by an exception.
const { Client } = require('abraxas');
const client = Client.connect({ host: '127.0.0.1', port: Number(process.argv[2]), maxJobs: 4 });
// Behind WORK_EXCEPTION it sends WORK_FAIL, and does not survive the ERROR that answers it.
process.on('uncaughtException', (error) => { if (error.code !== 'JOB_NOT_FOUND') throw error; });
let runs = 0;
const reverse = (task) => Buffer.from(task.payload.length ? task.payload : '').reverse();
client.registerWorker('reverse', (task) => { task.end(reverse(task)); });
client.registerWorker('talk', (task) => {
  task.status(0.5);
  task.warn('careful');
  task.end('partdone');
});
client.registerWorker('fail', (task) => { task.error('failed'); });
client.registerWorker('throw', (task) => { task.error('thrown'); });
client.registerWorker('count', (task) => { setTimeout(() => task.end(String(++runs)), 1000); });
client.registerWorker('limited', { timeout: 60000 }, (task) => { task.end('in time'); });
