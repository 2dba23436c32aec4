/** TLS to programs that are not ours: collectors of logs and receivers of webhooks. */

/** Our own nodes speak 1.3; among the others are some that do not. */
export const OUTBOUND_TLS_VERSION = 'TLSv1.2';
