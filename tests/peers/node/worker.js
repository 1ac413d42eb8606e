// GearmaNode's worker. It makes UTF-8 of every result, so that only text survives.
const gearmanode = require('./quiet');
const worker = gearmanode.worker({ host: '127.0.0.1', port: Number(process.argv[2]), withUnique: true });
let runs = 0;
worker.addFunction('reverse', (job) => job.workComplete(Buffer.from(job.payload).reverse()));
worker.addFunction('talk', (job) => {
  job.reportStatus(1, 2);
  job.sendWorkData('part');
  job.reportWarning('careful');
  job.workComplete('done');
});
worker.addFunction('fail', (job) => job.reportError());
worker.addFunction('throw', (job) => job.reportException('thrown'));
worker.addFunction('count', (job) => setTimeout(() => job.workComplete(String(++runs)), 1000));
// In milliseconds here, as job servers take it, though its manual says seconds.
worker.addFunction('limited', (job) => job.workComplete('in time'), { timeout: 60000 });
