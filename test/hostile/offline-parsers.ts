/** Parsers of what somebody carries between a key server and nodes without a line to it. */
import { InvalidArgumentError } from 'commander';
import { digestOf } from '#src/oci/digest.ts';
import { parseOfflineBundleFile } from '#src/licensing/offline-bundle.ts';
import { parseOfflineRequestFile } from '#src/licensing/offline-request.ts';
import { parseOfflineLife } from '../../cli/time-arguments.ts';
import { parseOfflineRequest } from '../../keyserver/domain/offline-request.ts';
import { createNodeKey } from '../fakes/licensed-node.ts';
import { offlineRequest } from '../fakes/offline-node.ts';
import { type HostileParser, bytesParser, json, textParser } from './hostile-parser.ts';

const request = offlineRequest(await createNodeKey(), { images: [digestOf('x')] });
const BUNDLE_FILE = {
  kind: 'latchkey-offline-bundle',
  version: 1,
  signerCertificate: 'MA==',
  statements: { 'ik-1': 'e30=' },
  bundles: [{ nodeKeyThumbprint: 't', token: 'a.b.c' }],
};

export const OFFLINE_PARSERS: readonly HostileParser[] = [
  bytesParser(
    'src/licensing/offline-request.ts',
    'parseOfflineRequestFile',
    [json({ kind: 'latchkey-offline-request', version: 1, requests: [request] })],
    (bytes) => parseOfflineRequestFile(bytes, 'file'),
  ),
  bytesParser('src/licensing/offline-bundle.ts', 'parseOfflineBundleFile', [json(BUNDLE_FILE)], (bytes) =>
    parseOfflineBundleFile(bytes, 'file'),
  ),
  textParser('keyserver/domain/offline-request.ts', 'parseOfflineRequest', [request], parseOfflineRequest),
  textParser('cli/time-arguments.ts', 'parseOfflineLife', ['30d'], parseOfflineLife, {
    raises: InvalidArgumentError,
    isTyped: true,
  }),
];
