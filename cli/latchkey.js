#!/usr/bin/env node
// The command's entry. Written so that any old Node parses it: the guard below has to be able to speak.
var REQUIRED_MAJOR = 24;
var major = Number(process.versions.node.split('.')[0]);

if (major < REQUIRED_MAJOR) {
  process.stderr.write(
    'latchkey: needs Node.js ' + REQUIRED_MAJOR + ' or newer, this is ' + process.versions.node + '\n',
  );
  process.exit(78);
}

start();

function start() {
  var home = process.env.XDG_CACHE_HOME || (process.env.HOME && process.env.HOME + '/.cache');
  // Compiled code is trusted when it is read back, so it is kept in the user's own directory, never in /tmp.
  // Through the environment, because worker threads look there.
  if (home && !process.env.NODE_COMPILE_CACHE) process.env.NODE_COMPILE_CACHE = home + '/latchkey/compiled';
  import('node:module').then(function (module) {
    if (process.env.NODE_COMPILE_CACHE) module.enableCompileCache(process.env.NODE_COMPILE_CACHE);
    return import('./main.ts').then(function (entry) {
      return entry.main(process.argv.slice(2));
    });
  });
}
