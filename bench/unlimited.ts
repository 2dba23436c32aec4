/** What one caller may ask of a key server is limited; a benchmark asks how much there is. */

const NO_LIMIT = '1000000/1000000';

/** Arguments of a key server that counts nobody's calls. */
export const UNLIMITED = ['address', 'node', 'license', 'token'].flatMap((name) => [
  '--rate-limit',
  `${name}=${NO_LIMIT}`,
]);
