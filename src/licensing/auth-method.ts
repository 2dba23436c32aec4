/** How whoever caused an audit event has shown who it is. */

/** `node-key`: a proof of the node's key, for its next certificate. `none`: not at all, or the key server itself. */
export type AuthMethod =
  'api-token' | 'node-certificate' | 'node-key' | 'license-key' | 'join-token' | 'none';
