/** Parsers of the command line, the key server and the node agent. */
import 'reflect-metadata';
import { generateKeyPairSync, webcrypto } from 'node:crypto';
import { Pkcs10CertificateRequestGenerator } from '@peculiar/x509';
import { Metadata } from '@grpc/grpc-js';
import { CompactSign } from 'jose';
import { InvalidArgumentError } from 'commander';
import { parseLicenseKey, formatLicenseKey } from '#src/licensing/license-key.ts';
import { openToken, tokensOf } from '#src/crypto/open-token.ts';
import { LEASE_TOKEN_TYPE, LEASE_TOKEN_TYPES } from '#src/licensing/lease-claims.ts';
import { digestOf } from '#src/oci/digest.ts';
import { parseReference } from '#src/oci/reference.ts';
import { checkRealm } from '#src/registry/token.ts';
import { nextPage } from '#src/registry/link.ts';
import { parseChallenges } from '#src/registry/challenge.ts';
import { registryError } from '#src/registry/registry-error.ts';
import { retryAfterMs } from '#src/registry/retry.ts';
import { registryOrigin } from '#src/registry/endpoint.ts';
import { Any } from '#src/wire/generated/google/protobuf/any.ts';
import { fromGrpcError, toGrpcStatus } from '#src/wire/status.ts';
import { LatchkeyError } from '#src/base/errors.ts';
import { parseAmount, parseMeterName } from '../../cli/commands/license-meters.ts';
import { parseMetadata, parseNewMetadata, parseTag, parseTags } from '../../cli/label-arguments.ts';
import { parseReportId } from '../../cli/commands/node-usage.ts';
import { parseLimit } from '../../cli/list-options.ts';
import {
  parseConcealedText,
  parseEntitlements,
  parseName,
  parseProductCode,
} from '../../cli/name-arguments.ts';
import {
  parseDuration,
  parseInstant,
  parseLeaseDuration,
  parseSeatCount,
  parseStartCount,
} from '../../cli/time-arguments.ts';
import { parseArguments, parseListen } from '../../keyserver/arguments.ts';
import { parseRates } from '../../keyserver/rates.ts';
import { parseIfMatch } from '../../keyserver/http/entity-tag.ts';
import { parseNodeRequest } from '../../keyserver/custody/certificate-authority.ts';
import { readNodeUri } from '../../keyserver/custody/node-uri.ts';
import { parseAgentConfig } from '../../shim/agent/agent-config.ts';
import { imageLayers, parseImageManifest } from '../../shim/agent/encrypted-image.ts';
import { releaseVerificationKey } from '../../shim/agent/lease-statement.ts';
import { leaseVerificationKey, verifyLease } from '../../shim/agent/lease.ts';
import { parseNodeKeySetting } from '../../shim/agent/node-key-setting.ts';
import { parseHookState } from '../../shim/agent/stored-image.ts';
import { payloadLayerDigest } from '../../shim/agent/processor-payload.ts';
import { parseContainerdVersion } from '../../shim/install/containerd-config.ts';
import { extractionChainId, parseKey } from '../../shim/snapshotter/snapshot.ts';
import { LeaseIssuer, NODE_ID } from '../fakes/lease-issuer.ts';
import { manualClock } from '../fakes/manual-clock.ts';
import { encryptedImage, imgcryptPayload } from '../fakes/encrypted-image.ts';
import { type HostileParser, bytesParser, textParser } from './hostile-parser.ts';

const DIGEST = digestOf('x');
const CONTAINER_ID = 'ab'.repeat(32);
const PODMAN_STATE = {
  ociVersion: '1.0.2',
  id: CONTAINER_ID,
  status: 'creating',
  bundle: `/var/lib/containers/storage/overlay-containers/${CONTAINER_ID}/userdata`,
  annotations: { 'io.container.manager': 'libpod' },
};
const { subtle } = webcrypto;
const nodeKeys = await subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']);
const nodeRequest = await Pkcs10CertificateRequestGenerator.create({
  keys: nodeKeys,
  signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
});
const image = encryptedImage([Buffer.from('a'), Buffer.from('b')]);
const issuer = new LeaseIssuer(manualClock());
const leaseKey = leaseVerificationKey(issuer.verificationJwk);
const [sharedLease = ''] = tokensOf(issuer.signTogether([{ leaseId: 'a' }, { leaseId: 'b' }]));
const lease = await issuer.sign(issuer.claims({ imageDigest: DIGEST, imageKeyId: 'ik-1' }));
const stranger = generateKeyPairSync('ed25519').privateKey;
const registry = new URL('https://reg.example');
const typed = { isTyped: true };
const argument = { ...typed, raises: InvalidArgumentError };

/** Anybody can sign something; what is in it is then looked at. */
async function verifySignedLease(payload: Uint8Array): Promise<void> {
  const token = await new CompactSign(payload)
    .setProtectedHeader({ alg: 'EdDSA', typ: LEASE_TOKEN_TYPE })
    .sign(stranger);
  const jwk = JSON.stringify(stranger.export({ format: 'jwk' }));
  await verifyLease(token, leaseVerificationKey(jwk), { nodeId: NODE_ID });
}

/** The error that travelled, as the near end reads it. */
function errorFromWire(detail: Uint8Array): void {
  const metadata = new Metadata();
  metadata.set('latchkey-error-bin', Buffer.from(detail));
  const error = Object.assign(new Error('x'), { code: 9, details: 'x', metadata });
  if (!(fromGrpcError(error, 'peer') instanceof LatchkeyError)) throw new Error('not our error');
}

const wireDetail = toGrpcStatus(new LatchkeyError('DENIED_NODE_BANNED', 'm', { hint: 'h' }))
  .metadata?.get('latchkey-error-bin')
  .map((value) => Buffer.from(value));

export const SITE_PARSERS: readonly HostileParser[] = [
  textParser(
    'src/licensing/license-key.ts',
    'parseLicenseKey',
    [formatLicenseKey(Buffer.alloc(20, 3))],
    parseLicenseKey,
  ),
  bytesParser('src/wire/status.ts', 'fromGrpcError', wireDetail ?? [], errorFromWire),
  textParser(
    'src/registry/challenge.ts',
    'parseChallenges',
    ['Bearer realm="https://a.example/token",service="s",scope="a,b", Basic realm="x"'],
    parseChallenges,
  ),
  textParser('src/registry/link.ts', 'nextPage', ['</v2/x?n=1>; rel="next"'], (text) =>
    nextPage({ get: () => text } as unknown as Headers, registry),
  ),
  textParser('src/registry/token.ts', 'checkRealm', ['https://auth.example/token'], (text) =>
    checkRealm(text, registry),
  ),
  textParser('src/registry/retry.ts', 'retryAfterMs', ['120', 'Wed, 21 Oct 2026 07:28:00 GMT'], (text) => {
    const waitMs = retryAfterMs({ headers: { get: () => text } as unknown as Headers }, 0);
    if (!(waitMs >= 0)) throw new Error(`a wait of ${waitMs} ms`);
  }),
  bytesParser(
    'src/registry/registry-error.ts',
    'registryError',
    [Buffer.from('{"errors":[{"code":"DENIED","message":"no"}]}')],
    (bytes) => {
      const { message } = registryError(
        { status: 403, headers: new Headers(), url: registry, bytes },
        'read',
        'reg.example',
      );
      if (/\p{Cc}/u.test(message) || message.length > 400)
        throw new Error('the words of a registry came through');
    },
  ),
  textParser('cli/time-arguments.ts', 'parseDuration', ['90s', '30d'], parseDuration, argument),
  textParser('cli/time-arguments.ts', 'parseLeaseDuration', ['24h'], parseLeaseDuration, argument),
  textParser(
    'cli/time-arguments.ts',
    'parseInstant',
    ['2027-01-31', '2027-01-31T12:00:00Z'],
    parseInstant,
    argument,
  ),
  textParser('keyserver/http/entity-tag.ts', 'parseIfMatch', ['"7"', 'W/"7", "8"', '*'], parseIfMatch),
  textParser('cli/commands/license-meters.ts', 'parseMeterName', ['api-calls'], parseMeterName, argument),
  textParser('cli/commands/license-meters.ts', 'parseAmount', ['100'], parseAmount, argument),
  textParser('cli/list-options.ts', 'parseLimit', ['20'], parseLimit, argument),
  textParser('cli/time-arguments.ts', 'parseSeatCount', ['3'], parseSeatCount, argument),
  textParser('cli/time-arguments.ts', 'parseStartCount', ['500'], parseStartCount, argument),
  textParser('cli/commands/node-usage.ts', 'parseReportId', ['2026-11-30T10'], parseReportId, argument),
  textParser('cli/label-arguments.ts', 'parseTag', ['region:eu'], parseTag, argument),
  textParser('cli/label-arguments.ts', 'parseTags', ['region:eu'], (text) => parseTags(text), argument),
  textParser(
    'cli/label-arguments.ts',
    'parseMetadata',
    ['a=b', 'a='],
    (text) => parseMetadata(text),
    argument,
  ),
  textParser(
    'cli/label-arguments.ts',
    'parseNewMetadata',
    ['a=b'],
    (text) => parseNewMetadata(text),
    argument,
  ),
  textParser('cli/name-arguments.ts', 'parseName', ['Acme'], parseName, argument),
  textParser('cli/name-arguments.ts', 'parseConcealedText', ['crm-4711'], parseConcealedText, argument),
  textParser('cli/name-arguments.ts', 'parseProductCode', ['suite'], parseProductCode, argument),
  textParser(
    'cli/name-arguments.ts',
    'parseEntitlements',
    ['sso'],
    (text) => parseEntitlements(text),
    argument,
  ),
  textParser(
    'keyserver/arguments.ts',
    'parseListen',
    ['[::1]:7440'],
    (text) => parseListen(text, 'admin-listen'),
    typed,
  ),
  textParser('keyserver/rates.ts', 'parseRates', ['node=20/300'], (text) => parseRates([text]), argument),
  textParser(
    'keyserver/arguments.ts',
    'parseArguments',
    ['--data=x'],
    (text) => parseArguments(text.split(' ')),
    typed,
  ),
  bytesParser(
    'keyserver/custody/certificate-authority.ts',
    'parseNodeRequest',
    [new Uint8Array(nodeRequest.rawData)],
    parseNodeRequest,
  ),
  textParser(
    'keyserver/custody/node-uri.ts',
    'readNodeUri',
    ['URI:latchkey:node:node_1', `URI:latchkey:node-tls:node_1:${'t'.repeat(43)}`],
    readNodeUri,
  ),
  textParser(
    'shim/agent/agent-config.ts',
    'parseAgentConfig',
    ['key_server = "a:1"\nenrollment = "a:2"\nauthority_file = "x"\n'],
    (text) => parseAgentConfig(text, 'agent.toml'),
  ),
  textParser(
    'shim/agent/node-key-setting.ts',
    'parseNodeKeySetting',
    ['pkcs11:token=t;object=k?module-name=softhsm2&pin-source=file:/etc/pin'],
    (text) => parseNodeKeySetting(text, 'agent.toml'),
  ),
  bytesParser('shim/agent/encrypted-image.ts', 'parseImageManifest', [image.manifestBytes], (bytes) => {
    const manifest = parseImageManifest(bytes);
    return manifest && imageLayers(manifest, image.configBytes);
  }),
  bytesParser('shim/agent/encrypted-image.ts', 'imageLayers', [image.configBytes], (bytes) =>
    imageLayers(parseImageManifest(image.manifestBytes)!, bytes),
  ),
  textParser('shim/agent/lease.ts', 'leaseVerificationKey', [issuer.verificationJwk], leaseVerificationKey),
  textParser(
    'shim/agent/lease-statement.ts',
    'releaseVerificationKey',
    [issuer.verificationJwk],
    releaseVerificationKey,
  ),
  textParser('shim/agent/lease.ts', 'verifyLease', [lease], (text) =>
    verifyLease(text, leaseKey, { nodeId: NODE_ID }),
  ),
  textParser(
    'src/crypto/open-token.ts',
    'openToken',
    [lease, sharedLease],
    (text) => openToken(text, leaseKey, LEASE_TOKEN_TYPES),
    { raises: Error },
  ),
  bytesParser(
    'shim/agent/lease.ts',
    'verifyLease of signed claims',
    [Buffer.from(JSON.stringify(issuer.claims({ imageDigest: DIGEST, imageKeyId: 'ik-1' })))],
    verifySignedLease,
  ),
  bytesParser(
    'shim/agent/processor-payload.ts',
    'payloadLayerDigest',
    [imgcryptPayload(DIGEST)],
    payloadLayerDigest,
  ),
  bytesParser(
    'shim/agent/processor-payload.ts',
    'payloadLayerDigest of JSON',
    [Buffer.from(JSON.stringify({ Descriptor: { digest: DIGEST } }))],
    (value) =>
      payloadLayerDigest(
        Any.encode({ typeUrl: 'io.containerd.ocicrypt.v1.Payload', value: Buffer.from(value) }).finish(),
      ),
  ),
  bytesParser(
    'shim/agent/stored-image.ts',
    'parseHookState',
    [
      Buffer.from(JSON.stringify(PODMAN_STATE)),
      Buffer.from(
        JSON.stringify({
          ...PODMAN_STATE,
          annotations: { 'io.kubernetes.cri-o.MountPoint': '/var/lib/containers/storage/overlay/ab/merged' },
        }),
      ),
    ],
    parseHookState,
  ),
  textParser(
    'shim/install/containerd-config.ts',
    'parseContainerdVersion',
    ['v1.6.20'],
    parseContainerdVersion,
    typed,
  ),
  textParser('shim/snapshotter/snapshot.ts', 'parseKey', ['k8s.io/12/extract-1 sha256:x'], parseKey),
  textParser('shim/snapshotter/snapshot.ts', 'extractionChainId', [`k8s.io/12/extract-1 ${DIGEST}`], (text) =>
    extractionChainId(text, { 'containerd.io/snapshot.ref': text }),
  ),
  textParser('src/registry/endpoint.ts', 'registryOrigin', ['reg.example:5000/a', '10.0.0.1/a'], (text) =>
    registryOrigin(parseReference(text).registry),
  ),
];
