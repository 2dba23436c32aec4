/** How recipients and private keys are written, for the help of every command that takes them. */
export const RECIPIENT_HELP =
  'jwe:FILE, pkcs7:CERTIFICATE, pgp:NAME, pkcs11:FILE or provider:NAME[:PARAMETER]; repeatable';

export const KEY_FORM = 'file[:password]';

/** What may follow `--key`, and how its password does. */
export const KEY_HELP = `\
Keys: PEM, DER or JWK; an exported PGP secret key; a PKCS#11 key file; for a pkcs7 recipient the private key and
its certificate, each with a --key of its own. Others are pkcs11:URI and provider:NAME[:PARAMETER].
Passwords: FILE:file=PASSWORD_FILE or FILE:fd=NUMBER. FILE:pass=TEXT works too, but shows it to other users.`;
