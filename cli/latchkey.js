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

start(
  process.getBuiltinModule('node:module'),
  process.getBuiltinModule('node:fs'),
  process.getBuiltinModule('node:url').fileURLToPath(new URL('..', import.meta.url)),
);

function start(module, fs, root) {
  // Compiled code runs when it is read back, so it lies with the code: who can write here needs no such detour.
  // Through the environment, because worker threads and other programs of Latchkey look there.
  if (!process.env.NODE_COMPILE_CACHE) process.env.NODE_COMPILE_CACHE = root + 'dist/compiled';
  module.enableCompileCache(process.env.NODE_COMPILE_CACHE);

  var args = process.argv.slice(2);
  if (isBundleCurrent(fs, root)) {
    module
      .createRequire(import.meta.url)(root + 'dist/latchkey.cjs')
      .main(args);
    return;
  }
  import('./main.ts').then(function (entry) {
    entry.main(args);
  });
}

// One file starts in half the time (scripts/bundle.ts). Where it is missing, or a source is newer, the sources run.
function isBundleCurrent(fs, root) {
  try {
    var builtMs = fs.statSync(root + 'dist/latchkey.cjs').mtimeMs;
    var inputs = JSON.parse(fs.readFileSync(root + 'dist/inputs.json', 'utf8'));
    return inputs.every(function (path) {
      return fs.statSync(root + path).mtimeMs <= builtMs;
    });
  } catch {
    return false;
  }
}
