// winston 3 has no transport by default and warns at each call: it is silenced before gearmanode makes its loggers.
const winston = require('winston');
winston.configure({ silent: true });
for (const name of ['Client', 'Worker', 'JobServer', 'Job', 'ServerManager', 'protocol', 'Connection', 'LBStrategy']) {
  winston.loggers.add(name, { silent: true });
}
module.exports = require('gearmanode');
