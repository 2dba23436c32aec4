// Generates src/wire/generated from src/wire/proto with protoc and ts-proto. Run by hand after a .proto
// changes (`npm run generate`, needs Debian's protobuf-compiler); the output is committed.
import { execFileSync } from 'node:child_process';
import { globSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const protoDirectory = join(root, 'src/wire/proto');
const outputDirectory = join(root, 'src/wire/generated');

/** ts-proto options: no TypeScript enums (erasable syntax), typed oneofs, 64-bit integers as numbers up to 2^53. */
const OPTIONS = [
  'outputServices=grpc-js',
  'enumsAsLiterals=true',
  'unrecognizedEnum=false',
  'oneof=unions-value',
  'forceLong=number',
  'useOptionals=none',
  'useDate=false',
  'esModuleInterop=true',
  'importSuffix=.ts',
  'outputJsonMethods=false',
  'outputPartialMethods=true',
  'env=node',
  'useExactTypes=false',
];

rmSync(outputDirectory, { recursive: true, force: true });
mkdirSync(outputDirectory, { recursive: true });
const files = globSync('**/*.proto', { cwd: protoDirectory });
execFileSync(
  'protoc',
  [
    `--plugin=protoc-gen-ts_proto=${join(root, 'node_modules/.bin/protoc-gen-ts_proto')}`,
    `--ts_proto_out=${outputDirectory}`,
    `--ts_proto_opt=${OPTIONS.join(',')}`,
    `--proto_path=${protoDirectory}`,
    ...files,
  ],
  { stdio: 'inherit' },
);
