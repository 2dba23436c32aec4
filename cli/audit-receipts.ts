/**
 * Leases as receipts of the audit log: each names its event, signed by the key server, and is kept by the node. The hash
 * of that event covers all before it.
 */
import { type KeyObject, createPublicKey } from 'node:crypto';
import * as z from 'zod';
import { readBoundedFile } from '#src/base/bounded-file.ts';
import { LatchkeyError, systemErrorCode } from '#src/base/errors.ts';
import { parseJson } from '#src/base/json.ts';
import { MAX_NODE_STATUS_BYTES } from '#src/base/limits.ts';
import type { AuditEvent } from '#src/crypto/audit-chain.ts';
import { openToken } from '#src/crypto/open-token.ts';
import { LEASE_TOKEN_TYPES, type LeaseReceipt, leaseReceiptSchema } from '#src/licensing/lease-claims.ts';

export interface KeptReceipt extends LeaseReceipt {
  readonly leaseId: string;
}

/** What `latchkey node status --json` prints, as far as it is looked at. */
const statusSchema = z.object({ leases: z.array(z.object({ token: z.string() })) });

/** A lease as a receipt; what else it says, also to newer versions, is for the node. */
const receiptClaimsSchema = z.object({ leaseId: z.string(), receipt: leaseReceiptSchema.optional() });

/**
 * Reads the key that signs leases: JSON Web Keys, one a line.
 * @throws LatchkeyError STATE_NOT_FOUND, KEY_INVALID
 */
export async function readReceiptKeys(path: string): Promise<KeyObject[]> {
  const lines = (await readText(path, 'write it with `latchkey audit key --receipts > FILE`')).split('\n');
  return lines.filter((line) => line.trim() !== '').map((line) => receiptKey(line, path));
}

function receiptKey(line: string, path: string): KeyObject {
  try {
    const key = createPublicKey({ key: parseJson(line, path) as Record<string, string>, format: 'jwk' });
    if (key.asymmetricKeyType === 'ed25519') return key;
    throw new TypeError('it is of another type');
  } catch (error) {
    throw new LatchkeyError('KEY_INVALID', `${path} holds no key that verifies leases`, {
      hint: 'write it with `latchkey audit key --receipts > FILE`',
      cause: error,
    });
  }
}

/**
 * Reads receipts: what `latchkey node status --json` printed, or leases, one a line.
 * @throws LatchkeyError STATE_NOT_FOUND, INPUT_MALFORMED, STATE_DAMAGED for one that no key has signed
 */
export async function readReceipts(path: string, keys: readonly KeyObject[]): Promise<KeptReceipt[]> {
  const text = await readText(path, 'write it with `latchkey node status --json > FILE`');
  const receipts: KeptReceipt[] = [];
  for (const token of tokensOf(text, path)) {
    const { leaseId, receipt } = await openLease(token, keys, path);
    if (receipt !== undefined) receipts.push({ leaseId, ...receipt });
  }
  if (receipts.length > 0) return receipts;
  throw new LatchkeyError('STATE_NOT_FOUND', `${path} holds no receipt`, {
    hint: 'a node has one for each lease that it holds now: latchkey node status --json > FILE',
  });
}

function tokensOf(text: string, path: string): string[] {
  if (!text.trimStart().startsWith('{')) return text.split('\n').filter((line) => line.trim() !== '');
  const status = statusSchema.safeParse(jsonOrNull(text, path));
  if (status.success) return status.data.leases.map(({ token }) => token);
  throw new LatchkeyError('INPUT_MALFORMED', `${path} is not what \`latchkey node status --json\` prints`, {
    hint: 'write it with `latchkey node status --json > FILE`, by the same version of Latchkey',
    cause: status.error,
  });
}

/** Null for what is no JSON: it is not what a node prints either. */
function jsonOrNull(text: string, path: string): unknown {
  try {
    return parseJson(text, path);
  } catch {
    return null;
  }
}

async function openLease(
  token: string,
  keys: readonly KeyObject[],
  path: string,
): Promise<z.infer<typeof receiptClaimsSchema>> {
  for (const key of keys) {
    const payload = await openToken(token.trim(), key, LEASE_TOKEN_TYPES).catch(() => null);
    if (payload === null) continue;
    const claims = receiptClaimsSchema.safeParse(parseJson(payload, 'a lease'));
    if (claims.success) return claims.data;
    throw new LatchkeyError(
      'INPUT_MALFORMED',
      `${path} holds a lease that this version does not understand`,
      {
        cause: claims.error,
      },
    );
  }
  throw new LatchkeyError('STATE_DAMAGED', `${path} holds a lease that the key server has not signed`, {
    hint: 'it was changed, or the key is of another key server',
  });
}

async function readText(path: string, hint: string): Promise<string> {
  try {
    const bytes = await readBoundedFile(path, MAX_NODE_STATUS_BYTES);
    if (bytes !== undefined) return bytes.toString();
  } catch (error) {
    if (!['ENOENT', 'ENOTDIR', 'EISDIR'].includes(systemErrorCode(error) ?? '')) throw error;
    throw new LatchkeyError('STATE_NOT_FOUND', `there is no file ${path}`, { hint, cause: error });
  }
  throw new LatchkeyError('LIMIT_EXCEEDED', `${path} is larger than ${MAX_NODE_STATUS_BYTES} bytes`, {
    hint,
  });
}

/**
 * Passes events on, and compares those that receipts are for.
 * @throws LatchkeyError STATE_DAMAGED naming the first event that is missing or another one
 */
export async function* againstReceipts(
  events: AsyncIterable<AuditEvent>,
  receipts: readonly KeptReceipt[],
): AsyncGenerator<AuditEvent> {
  const waiting = [...receipts].sort((left, right) => left.sequence - right.sequence);
  let last = 0;
  for await (const event of events) {
    // Whoever takes the events checks them first, so that a changed event is named before its receipt.
    yield event;
    last = event.sequence;
    for (let next = waiting[0]; next?.sequence === event.sequence; next = waiting[0]) {
      if (event.hash !== next.hash)
        throw damaged(`event ${event.sequence} is not the one of ${next.leaseId}`);
      waiting.shift();
    }
  }
  const missed = waiting[0];
  if (missed === undefined) return;
  throw damaged(
    `event ${last + 1} is missing (the log ends, but ${missed.leaseId} is event ${missed.sequence})`,
  );
}

function damaged(fault: string): LatchkeyError {
  return new LatchkeyError('STATE_DAMAGED', `the audit log does not verify: ${fault}`, {
    hint: 'the log was cut or written anew after the lease was given; keep a copy of it and of the receipt',
  });
}
