// How a command of Latchkey starts: from its one file in `dist/`, or from its sources. Written so that any old Node parses
// it: the guard below has to be able to speak.
var REQUIRED_MAJOR = 24;

/**
 * Runs `main` of a program with this process's arguments; on an old Node it says so and ends with status 78.
 * @param {string} name the program's file in `dist/`, without extension
 * @param {() => Promise<{ main(args: string[]): unknown }>} loadSources
 */
export function launch(name, loadSources) {
  var major = Number(process.versions.node.split('.')[0]);
  if (major < REQUIRED_MAJOR) {
    process.stderr.write(
      'latchkey: needs Node.js ' + REQUIRED_MAJOR + ' or newer, this is ' + process.versions.node + '\n',
    );
    process.exit(78);
  }
  var module = process.getBuiltinModule('node:module');
  var fs = process.getBuiltinModule('node:fs');
  var root = process.getBuiltinModule('node:url').fileURLToPath(new URL('../..', import.meta.url));

  // Compiled code runs when it is read back, so it lies with the code: who can write here needs no such detour.
  // Through the environment, because worker threads and other programs of Latchkey look there.
  if (!process.env.NODE_COMPILE_CACHE) process.env.NODE_COMPILE_CACHE = root + 'dist/compiled';
  module.enableCompileCache(process.env.NODE_COMPILE_CACHE);

  var args = process.argv.slice(2);
  if (isBundleCurrent(fs, root, name)) {
    module
      .createRequire(import.meta.url)(root + 'dist/' + name + '.cjs')
      .main(args);
    return;
  }
  loadSources().then(function (entry) {
    entry.main(args);
  });
}

// One file starts in half the time (scripts/bundle.ts). Where it is missing, or a source is newer, the sources run.
function isBundleCurrent(fs, root, name) {
  try {
    var builtMs = fs.statSync(root + 'dist/' + name + '.cjs').mtimeMs;
    var inputs = JSON.parse(fs.readFileSync(root + 'dist/' + name + '.inputs.json', 'utf8'));
    return inputs.every(function (path) {
      return fs.statSync(root + path).mtimeMs <= builtMs;
    });
  } catch {
    return false;
  }
}
