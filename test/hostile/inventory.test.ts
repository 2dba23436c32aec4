/** No parser without a hostile test: what reads outside input is in one of the tables, or says where it is tested. */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { IMAGE_PARSERS } from './image-parsers.ts';
import { KEY_PARSERS } from './key-parsers.ts';
import { NODE_PARSERS } from './node-parsers.ts';
import { ARGUMENT_PARSERS } from './argument-parsers.ts';
import { OFFLINE_PARSERS } from './offline-parsers.ts';
import { RECEIVER_PARSERS } from './receiver-parsers.ts';
import { SITE_PARSERS } from './site-parsers.ts';
import { TERM_PARSERS } from './term-parsers.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const FOLDERS = ['src', 'cli', 'keyserver', 'shim'];
/** Calls that turn text or bytes from somewhere into values. */
const READS =
  /\b(?:parseJson|JSON\.parse|parseDocument|checkDocument)\(|\.(?:safeParse|parse)\(|\bfrom(?:Der|BER)\(|\bX509Certificate\(|\bPkcs10CertificateRequest\(|\bcreate(?:Private|Public)Key\(|\bread(?:Keys|Message)\(|\bBinaryReader\(|\.decode\(|'(?:smol-toml|yaml|tar-stream)'/;
const PARSER_NAME = /^export (?:async )?function (parse[A-Z]\w*)/gm;

/** Files that read input and have their hostile tests somewhere else. */
const TESTED_ELSEWHERE: Readonly<Record<string, string>> = {
  'keyserver/http/json-body.ts': 'test/keyserver/api-walk.test.ts',
  'src/registry/credential-helper.ts': 'test/registry/credentials.test.ts',
  'src/licensing/offline-file.ts': 'test/licensing/offline-bundle.test.ts',
  'src/registry/credentials.ts': 'test/registry/credentials.test.ts',
  'src/store/docker-archive.ts': 'test/store/hostile-archive.test.ts',
  'src/store/layout-reader.ts': 'test/hostile/mutated-image.test.ts',
  'src/store/tar-members.ts': 'test/store/hostile-archive.test.ts',
  'keyserver/domain/node-usage.ts': 'test/keyserver/node-usage.test.ts',
  'cli/audit-log.ts': 'test/keyserver/audit.test.ts',
  'cli/commands/audit-verify.ts': 'test/cli/audit-tampering.test.ts',
  'cli/audit-proofs.ts': 'test/cli/audit-tampering.test.ts',
  'cli/audit-receipts.ts': 'test/keyserver/audit-receipts.test.ts',
  'cli/image-key-file.ts': 'test/cli/key-provider-request.test.ts',
  'cli/root-key-input.ts': 'test/keyserver/seal.test.ts',
  'shim/agent/installation-id.ts': 'test/node/installation.test.ts',
  'shim/agent/offline-bundle.ts': 'test/node/offline-bundle-refused.test.ts',
  'shim/agent/volume-claims.ts': 'test/shim/agent/volume-claims.test.ts',
  'shim/install/install.ts': 'test/shim/install/install.test.ts',
};

/** Files whose input is our own: written by us, in a place only we can write to, or no input at all. */
const OWN_INPUT: Readonly<Record<string, string>> = {
  'src/image/push-staging.ts': 'a file that an earlier push has left in the own cache',
  'src/keywrap/pkcs11-ec-key.ts': 'the public half of a key whose private half the token is trusted with',
  'src/keywrap/pkcs11-token.ts': 'the public key of a token that is trusted with the private one',
  'src/store/tar-writer.ts': 'writes only',
  'shim/install/trial-text.ts': 'writes only; it is read in toml-text.ts',
  'cli/admin-request.ts': 'answers of the key server that the user has named and logs in to',
  'cli/admin-client.ts': 'answers of the key server that the user has named and logs in to',
  'cli/program.ts': 'the own package.json',
  'cli/commands/server-init.ts': 'the answer of a program of ours',
  'cli/commands/server-add-token.ts': 'the answer of a program of ours',
  'cli/commands/server-restore.ts': 'the answer of a program of ours',
  'cli/commands/server-rotate.ts': 'the answer of a program of ours',
  'keyserver/doctor/facts.ts': 'the own data directory, and the own key server on the same machine',
  'keyserver/given-proof.ts': 'what the command line of ours has checked',
  'keyserver/backup/table-lines.ts': 'what a key server has sealed under the root key',
  'cli/run-program.ts': 'the answer of a program of ours',
  'keyserver/main.ts': 'the own package.json',
  'keyserver/audit/audit-key.ts': 'the own key from the own database',
  'keyserver/audit/audit-publisher.ts': 'the own key, to derive its public half',
  'keyserver/audit/list-events.ts': 'the own database',
  'keyserver/custody/listener-certificate.ts': 'the own data directory',
  'keyserver/custody/root-key-slot.ts': 'the own database',
  'keyserver/custody/token-slot.ts': 'the own database',
  'keyserver/custody/organization-keys.ts': 'keys from the own database, under the root key',
  'keyserver/domain/authenticate.ts': 'a key that was checked when its node was activated',
  'keyserver/domain/check-out.ts':
    'keys of the own database, and of nodes that were checked when they were enrolled',
  'keyserver/domain/idempotent-answer.ts': 'answers that the key server itself has sealed in its database',
  'keyserver/domain/license-labels.ts': 'the own database',
  'keyserver/custody/node-keys.ts': 'a key that was checked when its node was activated',
  'keyserver/domain/organization.ts': 'the own database',
  'keyserver/http/api-document.ts': 'the own schemas',
  'keyserver/domain/webhook-endpoints.ts': 'the own database',
  'keyserver/webhook/webhooks.ts': 'the own database',
  'keyserver/grpc/peer-certificate.ts': 'certificates that the own authority has signed; TLS checks it',
  'shim/agent/authentication.ts': 'the certificate in the own state directory',
  'shim/agent/main.ts': 'the own package.json',
  'shim/containerd/containers.ts': 'what containerd itself has written down of a container',
  'shim/agent/node-identity.ts': 'the own state directory',
  'shim/agent/software-key.ts': 'the own private key',
  'shim/agent/size-setting.ts': 'text that the schema of the configuration has checked',
  'shim/snapshotter/journal.ts': 'the own state directory',
};

const sources = FOLDERS.flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.startsWith('wire/generated'))
    .map((name) => `${folder}/${name}`),
);
const parsers = [
  ...IMAGE_PARSERS,
  ...KEY_PARSERS,
  ...SITE_PARSERS,
  ...TERM_PARSERS,
  ...RECEIVER_PARSERS,
  ...NODE_PARSERS,
  ...ARGUMENT_PARSERS,
  ...OFFLINE_PARSERS,
];
const inTables = new Set(parsers.map(({ file }) => file));

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

describe('parsers of outside input', () => {
  test('are in a table of hostile tests, or name their own', () => {
    const known = new Set([...inTables, ...Object.keys(TESTED_ELSEWHERE), ...Object.keys(OWN_INPUT)]);
    const readers = sources.filter((path) => READS.test(read(path)));
    expect(readers.length).toBeGreaterThan(40);
    expect(readers.filter((path) => !known.has(path))).toEqual([]);
  });

  test('called parse... are all in a table by their name', () => {
    const names = new Set(parsers.map(({ file, name }) => `${file} ${name.split(' ')[0] ?? ''}`));
    const exported = sources.flatMap((path) =>
      [...read(path).matchAll(PARSER_NAME)].map((match) => `${path} ${match[1] ?? ''}`),
    );
    const elsewhere = new Set([...Object.keys(TESTED_ELSEWHERE), ...Object.keys(OWN_INPUT)]);
    const missing = exported.filter(
      (entry) => !names.has(entry) && !elsewhere.has(entry.split(' ')[0] ?? ''),
    );
    expect(exported.length).toBeGreaterThan(30);
    expect(missing).toEqual([]);
  });

  test('in the tables and lists exist', () => {
    const files = [...inTables, ...Object.keys(TESTED_ELSEWHERE), ...Object.keys(OWN_INPUT)];
    expect(files.filter((path) => !sources.includes(path))).toEqual([]);
    expect(Object.values(TESTED_ELSEWHERE).filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
  });
});
