/** What an answer with a certificate says about the next one. */
import { certificateRenewAtMs } from '#src/licensing/certificate-rules.ts';
import type { NodeCertificate } from '../custody/certificate-authority.ts';
import type { KeyServer } from '../domain/key-server.ts';

export function renewCertificateAtMs(server: KeyServer, { expiresAtMs }: NodeCertificate): number {
  return certificateRenewAtMs({ issuedAtMs: server.clock.nowMs(), expiresAtMs, random: server.random() });
}
