/** What a machine is enrolled with: a license key or a join token. */
import { LatchkeyError } from '#src/base/errors.ts';
import { isJoinToken, joinTokenDigest } from '#src/licensing/join-token.ts';
import { type JoinTokenDenial, joinTokenDenial } from '#src/licensing/join-token-state.ts';
import { licenseKeyDigest, parseLicenseKey } from '#src/licensing/license-key.ts';
import type { Reader } from '../db/store.ts';
import { type KnownJoinToken, loadJoinToken } from './join-tokens.ts';
import type { KeyServer } from './key-server.ts';
import { type GrantableLicense, loadLicense, loadLicenseOfKey } from './license-facts.ts';
import type { SeatLimits } from './seat-facts.ts';

/** Only the digest goes on from here. */
export interface Credential {
  readonly kind: 'license-key' | 'join-token';
  readonly digest: string;
}

/**
 * Reads what the machine has sent.
 * @throws LatchkeyError INPUT_LICENSE_KEY_MALFORMED; INPUT_MALFORMED for both, or something else than a join token
 */
export function readCredential(server: KeyServer, licenseKey: string, joinToken: string): Credential {
  if (joinToken === '') {
    const digest = licenseKeyDigest(parseLicenseKey(licenseKey), server.keys.lookupKey);
    return { kind: 'license-key', digest };
  }
  if (licenseKey === '' && isJoinToken(joinToken)) {
    return { kind: 'join-token', digest: joinTokenDigest(joinToken) };
  }
  throw new LatchkeyError('INPUT_MALFORMED', 'this is not a join token', {
    hint: 'copy the whole token, or use the license key',
  });
}

export interface CredentialFacts {
  /** Undefined when the credential opens none. */
  readonly license: GrantableLicense | undefined;
  readonly joinToken: KnownJoinToken | undefined;
  /** Why a join token opens none; null for license keys. */
  readonly denial: JoinTokenDenial | null;
}

/** For the queries about a license that is not there, which take the same work: none has this id. */
export const NO_LICENSE: Pick<GrantableLicense, 'licenseId' | keyof SeatLimits> = {
  licenseId: '',
  maxNodes: 0,
  maxInstallations: null,
  overage: 'none',
};

/** Loads what the credential opens for a node. */
export async function loadCredential(
  server: KeyServer,
  reader: Reader,
  credential: Credential,
  { nodeId, nowMs }: { readonly nodeId: string; readonly nowMs: number },
): Promise<CredentialFacts> {
  if (credential.kind === 'license-key') {
    const license = await loadLicenseOfKey(reader, credential.digest);
    return { license, joinToken: undefined, denial: null };
  }
  const joinToken = await loadJoinToken(reader, server.organizationId, credential.digest);
  const denial = joinTokenDenial(joinToken, nodeId, nowMs);
  // Looked for in any case, so that no answer takes less work than another.
  const license = await loadLicense(reader, joinToken?.licenseId ?? NO_LICENSE.licenseId);
  return { license: denial === null ? license : undefined, joinToken, denial };
}
