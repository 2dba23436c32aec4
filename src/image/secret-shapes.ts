/**
 * What a secret looks like: by the name it is given, by its own shape, or by how a command line passes it. Pure. Made to
 * be quiet on public images: fingerprints, checksums, versions, paths and placeholders are no secrets. Every pattern is
 * bounded, so that a hostile text costs no more than its length.
 */

/** A secret found in a text; never its value. */
export interface SecretSighting {
  /** Of the variable, flag or field that holds it, when it has one. */
  readonly name?: string | undefined;
  /** What makes it look like a secret. */
  readonly reason: string;
}

const BY_NAME = 'its name says it is a secret';

/** One of these words in a name is enough. */
const SECRET_WORDS = new Set(
  'password passwords passwd passphrase pass pwd secret secrets token tokens apikey apikeys credential credentials storepass keypass requirepass masterauth'.split(
    ' ',
  ),
);
/** A key is secret only when a word before it says so: names such as GPG_KEY hold fingerprints. */
const KEY_QUALIFIERS = new Set(
  'api access private secret signing encryption encrypt auth account storage master license admin service'.split(
    ' ',
  ),
);
/** What a name ends in when it is about a secret but holds none. */
const HARMLESS_ENDINGS = new Set(
  (
    'file files path dir directory url uri endpoint name names id length len ttl timeout expiry expires expiration type ' +
    'algorithm alg version enabled disabled required policy issuer audience header prefix suffix count limit size mode ' +
    'scope provider backend store manager method command cmd checksum sha256 fingerprint ref stdin arn format ' +
    'rotation interval attempts strategy parallelism plugin mount'
  ).split(' '),
);
const HARMLESS_BEGINNINGS = new Set('no allow max min num skip disable enable use require public'.split(' '));

/** True for a name such as `DB_PASSWORD`, `apiKey` or `--registry-token`. */
export function isSecretName(name: string): boolean {
  const words = wordsOf(name);
  const last = words.at(-1) ?? '';
  const isAppRole = last === 'id' && words.at(-2) === 'secret';
  if (HARMLESS_BEGINNINGS.has(words[0] ?? '')) return false;
  if (HARMLESS_ENDINGS.has(last) && !isAppRole) return false;
  // PWD and OLDPWD are where a shell is.
  if (words.length === 1 && (last === 'pwd' || last === 'pass')) return false;
  return words.some(
    (word, at) =>
      SECRET_WORDS.has(word) ||
      ((word === 'key' || word === 'keys') && KEY_QUALIFIERS.has(words[at - 1] ?? '')),
  );
}

function wordsOf(name: string): string[] {
  return name
    .replaceAll(/([a-z\d])([A-Z])/g, '$1_$2')
    .toLowerCase()
    .split(/[^a-z\d]+/)
    .filter((word) => word !== '')
    .flatMap((word) => {
      // PGPASSWORD, MYSQL_ROOTPASSWORD: run together, still said.
      const joined = /^[a-z\d]{1,20}(password|passwd|passphrase|apikey)$/.exec(word)?.[1];
      return joined === undefined ? [word] : [word, joined];
    });
}

const PLACEHOLDER =
  /^(?:|true|false|yes|no|on|off|none|null|nil|undefined|unset|disabled|enabled|required|optional|change[-_ ]?(?:me|it)|replace[-_ ]?me|redacted|placeholder|dummy|todo|x{3,}|\*+|\.{3,}|-+|your[-_ ].*|<.*>|\[.*\]|\{\{.*|%\w+%|(?:vault|ssm|op|arn|file|env|secret|secretref|ref\+\w+|projects):.*)$/is;

/** In a script, what a shell puts in when it runs, and the options of a secret mount. */
const SCRIPT_REFERENCE = /^(?:[$`].*|\\?"?\$.*|(?:id|type|src|source|target)=.*)$/is;
/** In a value that nobody expands any more, only what is nothing but a reference. */
const LITERAL_REFERENCE = /^(?:\$[A-Z_][A-Z0-9_]*|\$\{[^{}]*\}|\$\([^()]*\)|`[^`]*`)$/;

/** One path segment that no person would name a file. */
const RANDOM_SEGMENT = /^(?=.*[A-Z])(?=.*[a-z])(?=.*\d)[\w+=-]{20,}$/;

/**
 * True for a value that holds no secret: empty, a placeholder, a reference to where the secret is, or a path.
 * @param from a script is still to be expanded; a literal, such as an environment variable in a config, is what it says
 */
export function isHarmlessValue(value: string, from: 'script' | 'literal' = 'script'): boolean {
  const bare = value
    .trim()
    .replace(/^(["'])(.*)\1$/s, '$2')
    .trim();
  const reference = from === 'script' ? SCRIPT_REFERENCE : LITERAL_REFERENCE;
  if (PLACEHOLDER.test(bare) || reference.test(bare)) return true;
  if (!/^(?:~?\/|\.{1,2}\/|[A-Za-z]:\\)/.test(bare) || /\s/.test(bare)) return false;
  const segments = bare.split(/[/\\]/);
  // A password may well begin with a slash; a path that is worth naming leads somewhere.
  if (from === 'literal' && segments.filter((segment) => segment !== '').length < 2) return false;
  return !segments.some((segment) => RANDOM_SEGMENT.test(segment));
}

/** Tokens that say by their own shape what they are. */
const TOKEN_SHAPES: readonly (readonly [what: string, shape: RegExp])[] = [
  ['a private key', /-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----/],
  ['an AWS access key', /(?<![A-Za-z0-9])(?:AKIA|ASIA)(?![A-Z0-9]{9}EXAMPLE)[A-Z0-9]{16}(?![A-Za-z0-9])/],
  ['a GitHub token', /(?<![A-Za-z0-9_])(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{22})/],
  ['a GitLab token', /(?<![A-Za-z0-9_-])gl(?:pat|dt|rt|cbt|ptt|ft|soat)-[\w-]{20}/],
  ['a Slack token', /(?<![A-Za-z0-9])xox[abeoprs]-[A-Za-z0-9-]{10}/],
  ['a Slack webhook', /hooks\.slack\.com\/services\/T\w{6,20}\/B\w{6,20}\/\w{16}/],
  ['a Google API key', /(?<![\w-])AIza[\w-]{35}(?![\w-])/],
  ['a Google OAuth secret', /(?<![\w-])(?:ya29\.|GOCSPX-)[\w-]{20}/],
  ['a Stripe key', /(?<![A-Za-z0-9])(?:[sr]k_(?:live|test)_|whsec_)[A-Za-z0-9]{16}/],
  ['an npm token', /(?<!\w)npm_[A-Za-z0-9]{36}(?!\w)/],
  ['a PyPI token', /(?<![\w-])pypi-AgE[\w-]{20}/],
  ['a Docker token', /(?<![\w-])dckr_(?:pat|oat)_[\w-]{20}/],
  ['a Hugging Face token', /(?<!\w)hf_[A-Za-z0-9]{34}(?!\w)/],
  ['a DigitalOcean token', /(?<!\w)do[opr]_v1_[a-f0-9]{64}/],
  ['a Vault token', /(?<![\w.])hv[sb]\.[\w-]{24}/],
  ['a SendGrid key', /(?<![\w.])SG\.[\w-]{22}\.[\w-]{43}/],
  ['an API key', /(?<![\w-])sk-(?:proj-|ant-)?[A-Za-z0-9_-]{32}/],
  ['an age key', /AGE-SECRET-KEY-1[A-Z0-9]{58}/],
  ['a license key', /(?<![\w-])LK(?:-[0-9A-HJKMNP-TV-Z]{6}){6}(?![\w-])/],
  ['a JSON web token', /(?<![\w-])eyJ[\w-]{8,4096}\.eyJ[\w-]{8,8192}\.[\w-]{8}/],
];

/** What a token in the text is, by shape; undefined when there is none. */
export function tokenShapeIn(text: string): string | undefined {
  return TOKEN_SHAPES.find(([, shape]) => shape.test(text))?.[0];
}

/** `scheme://user:password@host` */
const URL_WITH_PASSWORD =
  /(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{1,20}:\/\/[^\s/@:"'<>]{0,128}:([^\s/@"'<>]{1,256})@[^\s/@]/gi;
const QUOTED = `"(?:[^"\\\\]|\\\\.){0,4096}"|'[^']{0,4096}'`;
/** `NAME=value`, as shells, build arguments and connection strings write it. */
const ASSIGNMENT = new RegExp(
  String.raw`(?<![\w.$\-])(-{0,2}[A-Za-z_][\w.\-]{0,100})=(${QUOTED}|[^\s"';|&)]{0,4096})`,
  'g',
);
/** `--token value` */
const FLAG = new RegExp(
  String.raw`(?<![\w\-])(--?[A-Za-z][\w.\-]{2,100})["']?[\s,]{1,3}(?!["']?-)(${QUOTED}|[^\s"';|&)][^\s"';|&)]{3,4096})`,
  'g',
);
/** `"name": "value"` */
const JSON_FIELD = /"([\w.:-]{1,100})"\s{0,8}:\s{0,8}"((?:[^"\\]|\\.){0,4096})"/g;
/** Classic Dockerfile form, `ENV NAME value`. */
const ENV_INSTRUCTION = /(?<![\w-])ENV\s{1,8}([A-Za-z_]\w{0,100})\s{1,8}(?!=)(\S{1,4096})/g;
const AUTHORIZATION =
  /Authorization["']?\s{0,4}[:=]\s{0,4}["']?(?:Bearer|Basic|token)\s{1,4}([\w.+/=~-]{8})/gi;

/** `curl -u user:password` */
const CURL_USER =
  /(?<![\w-])curl(?=\s)[^|;&\n]{0,512}?\s(?:-u|--user)[\s=]{0,4}["']?[^\s:"'$]{1,64}:([^\s"'$]{1,256})/g;

const NAMED_PATTERNS: readonly (readonly [pattern: RegExp, reason: string])[] = [
  [ASSIGNMENT, BY_NAME],
  [JSON_FIELD, BY_NAME],
  [ENV_INSTRUCTION, BY_NAME],
  [FLAG, 'a command line passes it'],
];

/** Looks for secrets in a text: a command, a script, a document. Names are given once. */
export function secretsIn(text: string): SecretSighting[] {
  const found = new Map<string, SecretSighting>();
  for (const [pattern, reason] of NAMED_PATTERNS) {
    for (const [, name = '', value = ''] of text.matchAll(pattern)) {
      if (found.has(name) || !isSecretName(name) || isHarmlessValue(value)) continue;
      found.set(name, { name, reason: isBuildArgument(text, name) ? 'a build argument' : reason });
    }
  }
  return [...found.values(), ...unnamedSecretsIn(text)];
}

/** Looks for what is a secret whatever it is called. */
export function unnamedSecretsIn(text: string): SecretSighting[] {
  const shape = tokenShapeIn(text);
  const reasons = [
    shape === undefined ? undefined : `${shape} by its shape`,
    hasRealMatch(text, URL_WITH_PASSWORD) ? 'a URL with a password' : undefined,
    hasRealMatch(text, CURL_USER) ? 'a user and a password on a command line' : undefined,
    hasRealMatch(text, AUTHORIZATION) ? 'an Authorization header' : undefined,
  ];
  return reasons.flatMap((reason) => (reason === undefined ? [] : [{ reason }]));
}

/** Looks at a value with a name of its own, such as an environment variable. */
export function secretsInPair(name: string, value: string): SecretSighting[] {
  if (isSecretName(name) && !isHarmlessValue(value, 'literal')) return [{ name, reason: BY_NAME }];
  return secretsIn(value).map((sighting) => ({
    name,
    reason: sighting.name === undefined ? sighting.reason : `in it, ${sighting.name}: ${sighting.reason}`,
  }));
}

/** True when what the pattern captures is no placeholder. */
function hasRealMatch(text: string, pattern: RegExp): boolean {
  return [...text.matchAll(pattern)].some(([, value = '']) => !isHarmlessValue(value));
}

/** Builders keep `RUN` with the build arguments it saw, `|2 ONE=... TWO=... /bin/sh -c ...`. */
function isBuildArgument(text: string, name: string): boolean {
  if (!/^(?:RUN )?\|\d{1,4} /.test(text)) return false;
  const at = text.indexOf(` ${name}=`);
  const shell = text.search(/ \/\S+ -\w/);
  return at >= 0 && (shell < 0 || at < shell);
}
