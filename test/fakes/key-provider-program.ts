/**
 * A small key provider as others write them: a program that reads a request, and answers it or misbehaves.
 * Usage: key-provider-program.ts DIRECTORY BEHAVIOUR; every request is kept in DIRECTORY/requests, and what
 * environment it came with in DIRECTORY/environment.
 */
import { appendFileSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { unwrapAsProvider, wrapAsProvider } from './key-provider-wrapping.ts';

interface Request {
  readonly op: string;
  readonly keywrapparams: { readonly optsdata: string | null };
  readonly keyunwrapparams: { readonly annotation: string | null };
}

const STDOUT = 1;
const FLOOD_BYTES = 100 * 1024 * 1024;

const [directory = '', behaviour = 'base64'] = process.argv.slice(2);

switch (behaviour) {
  case 'hang':
    setInterval(() => undefined, 1000);
    break;
  case 'garbage':
    process.stdout.write('all is well\u001b[31m\n');
    break;
  case 'flood':
    flood();
    break;
  case 'fail':
    process.stderr.write('no such key\n\u001b[2Jask the administrator\n');
    process.exit(3);
    break;
  case 'repeat-request':
    process.stderr.write(`cannot read ${readFileSync(0, 'utf8')}`);
    process.exit(1);
    break;
  case 'repeat-numbers': {
    // As Rust and Go print a request that they have parsed.
    const { keywrapparams } = JSON.parse(readFileSync(0, 'utf8')) as Request;
    const bytes = [...Buffer.from(keywrapparams.optsdata ?? '', 'base64')];
    process.stderr.write(`optsdata: Some([${bytes.join(', ')}]) &{[${bytes.join(' ')}]}`);
    process.exit(1);
    break;
  }
  case 'die':
    process.stdout.write('{"keywrapresults":{"annotation":"');
    process.kill(process.pid, 'SIGKILL');
    break;
  default:
    answer(readFileSync(0, 'utf8'));
}

function answer(text: string): void {
  appendFileSync(join(directory, 'requests'), `${text}\n`);
  appendFileSync(join(directory, 'environment'), `${JSON.stringify(process.env)}\n`);
  const request = JSON.parse(text) as Request;
  if (request.op === 'keywrap') {
    const annotation = encode(wrapAsProvider(Buffer.from(request.keywrapparams.optsdata ?? '', 'base64')));
    // As Go writes it, with the block that is not used.
    process.stdout.write(
      JSON.stringify(
        behaviour === 'numbers'
          ? { keywrapresults: { annotation } }
          : { keywrapresults: { annotation }, keyunwrapresults: { optsdata: null } },
      ),
    );
  } else {
    const optsdata = encode(
      unwrapAsProvider(Buffer.from(request.keyunwrapparams.annotation ?? '', 'base64')),
    );
    process.stdout.write(JSON.stringify({ keyunwrapresults: { optsdata } }));
  }
}

function encode(bytes: Buffer): string | number[] {
  return behaviour === 'numbers' ? [...bytes] : bytes.toString('base64');
}

function flood(): void {
  const chunk = Buffer.alloc(1024 * 1024, 'x');
  for (let sent = 0; sent < FLOOD_BYTES; sent += chunk.length) writeSync(STDOUT, chunk);
}
