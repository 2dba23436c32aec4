/**
 * The key of TLS session tickets, with which a node that comes back makes half a handshake. A ticket stands for the
 * certificate that it was given for, so whoever has the key can be any node: it comes from the keys of the organization,
 * goes with them when the key server is sealed, and is on no disk. All key servers of a database have the same one, also after
 * a restart, because that is when everybody comes back.
 */
import { hkdfSync, randomBytes } from 'node:crypto';
import type { KeyServer } from '../domain/key-server.ts';

/** Name, HMAC key and AES key of 16 bytes each (Node.js, `server.setTicketKeys`). */
const TICKET_KEY_BYTES = 48;

/** While there are no keys of the organization it is a random one: then tickets last as long as nothing changes. */
export function ticketKey({ seal }: Pick<KeyServer, 'seal'>): Buffer {
  if (seal.isSealed) return randomBytes(TICKET_KEY_BYTES);
  const { lookupKey } = seal.unsealed.keys;
  return Buffer.from(hkdfSync('sha256', lookupKey, '', 'latchkey/node-tls-ticket', TICKET_KEY_BYTES));
}
