/** What the release thread is asked for, and what it answers. */
import type { KeyObject } from 'node:crypto';
import type { EnvelopePurpose } from '#src/crypto/envelope.ts';

export type ReleaseJob =
  | {
      readonly kind: 'sign';
      readonly type: string;
      /** JSON: a text is handed to another thread in less time than an object. */
      readonly payload: string;
      readonly privateKey: KeyObject;
    }
  | {
      readonly kind: 'sign-together';
      readonly listType: string;
      /** JSON. */
      readonly payloads: readonly string[];
      readonly privateKey: KeyObject;
    }
  | {
      readonly kind: 'seal';
      /** JWK of the public key, as text. */
      readonly recipient: string;
      readonly key: Uint8Array;
      readonly purpose: EnvelopePurpose;
    };

export type ReleaseResult =
  { readonly ok: true; readonly text: string } | { readonly ok: false; readonly error: unknown };
