#!/usr/bin/env node
// The key server's entry. Written so that any old Node parses it: the guard below has to be able to speak.
var REQUIRED_MAJOR = 24;
var major = Number(process.versions.node.split('.')[0]);

if (major < REQUIRED_MAJOR) {
  process.stderr.write(
    'latchkey: needs Node.js ' + REQUIRED_MAJOR + ' or newer, this is ' + process.versions.node + '\n',
  );
  process.exit(78);
}

import('./main.ts').then(function (module) {
  return module.main(process.argv.slice(2));
});
