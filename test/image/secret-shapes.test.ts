import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  isHarmlessValue,
  isSecretName,
  secretsIn,
  secretsInPair,
  tokenShapeIn,
} from '#src/image/secret-shapes.ts';

/** Joined here, so that no scanner takes this file for a leak. */
const joined = (...parts: string[]) => parts.join('');
const repeated = (count: number) => 'aB3'.repeat(count).slice(0, count);

describe('names', () => {
  test.each([
    'PASSWORD',
    'DB_PASSWORD',
    'PGPASSWORD',
    'MYSQL_PWD',
    'DB_PASS',
    'SECRET_KEY_BASE',
    'AWS_SECRET_ACCESS_KEY',
    'apiKey',
    'API_KEY',
    'x-api-key',
    'GITHUB_TOKEN',
    'NPM_TOKEN',
    'VAULT_SECRET_ID',
    'PRIVATE_KEY',
    'sshPrivateKey',
    'CREDENTIALS',
    'client_secret',
    'com.acme.registry-password',
    'STORAGE_ACCOUNT_KEY',
    'LICENSE_KEY',
    'SIGNING_KEY',
    'passphrase',
    'trustStorePassword',
    'GPG_PASSPHRASE',
    'JWT_SECRET',
  ])('%s is a secret’s', (name) => {
    expect(isSecretName(name)).toBe(true);
  });

  test.each([
    'PATH',
    'PWD',
    'OLDPWD',
    'HOME',
    'GPG_KEY',
    'GPG_KEYS',
    'NGINX_GPGKEYS',
    'NGINX_GPGKEY_PATH',
    'PG_SHA256',
    'NODE_VERSION',
    'PUBLIC_KEY',
    'POSTGRES_PASSWORD_FILE',
    'TOKEN_URL',
    'SECRET_NAME',
    'TOKEN_TTL',
    'PASSWORD_MIN_LENGTH',
    'MAX_TOKENS',
    'TOKENIZERS_PARALLELISM',
    'ALLOW_EMPTY_PASSWORD',
    'KEYBOARD',
    'MONKEY',
    'COMPASS_HOME',
    'PASSENGER_VERSION',
    'BYPASS',
    'SSH_AUTH_SOCK',
    'APT_KEY',
    'KEYSERVER',
    'AUTHOR',
    'KEYCLOAK_VERSION',
    'TLS_PRIVATE_KEY_PATH',
    'SECRETARY',
    'org.opencontainers.image.title',
    'DISABLE_TOKEN_CHECK',
  ])('%s is not', (name) => {
    expect(isSecretName(name)).toBe(false);
  });
});

describe('values', () => {
  test.each([
    '',
    '  ',
    'true',
    'none',
    'changeme',
    'change-me',
    'changeit',
    '<password>',
    '${PASSWORD}',
    '$PASSWORD',
    '"$PASSWORD"',
    '$(cat /run/x)',
    '`cat /run/x`',
    '{{ .Values.x }}',
    '%PASSWORD%',
    'xxxx',
    '****',
    '...',
    'your-token-here',
    'REDACTED',
    '/run/secrets/password',
    './secret.txt',
    '~/.netrc',
    'C:\\secret.txt',
    'vault:secret/data/x',
    'arn:aws:secretsmanager:x',
    'file:///run/secrets/x',
    'id=npmrc',
    '[redacted]',
  ])('%j holds no secret', (value) => {
    expect(isHarmlessValue(value)).toBe(true);
  });

  test.each(['hunter2', 'a', '12345678', 'correct horse', `/${repeated(39)}`, '/run/x and more'])(
    '%j may be one',
    (value) => {
      expect(isHarmlessValue(value)).toBe(false);
    },
  );
});

describe('tokens known by their shape', () => {
  test.each([
    [joined('AK', 'IA', 'ABCDEFGHIJKLMNOP'), 'AWS'],
    [joined('gh', 'p_', repeated(36)), 'GitHub'],
    [joined('github', '_pat_', repeated(40)), 'GitHub'],
    [joined('gl', 'pat-', repeated(20)), 'GitLab'],
    [joined('xo', 'xb-', '123456789012-abc'), 'Slack'],
    [joined('https://hooks.slack', '.com/services/T12345678/B12345678/', repeated(24)), 'Slack'],
    [joined('AI', 'za', repeated(35)), 'Google'],
    [joined('sk', '_live_', repeated(24)), 'Stripe'],
    [joined('np', 'm_', repeated(36)), 'npm'],
    [joined('dckr', '_pat_', repeated(27)), 'Docker'],
    [joined('ey', 'JhbGciOiJIUzI1NiJ9.', 'ey', 'JzdWIiOiIxIn0.', repeated(30)), 'JSON web token'],
    [joined('-----BEGIN ', 'RSA PRIVATE KEY-----'), 'private key'],
    [joined('-----BEGIN ', 'PRIVATE KEY-----'), 'private key'],
    [joined('-----BEGIN PGP ', 'PRIVATE KEY BLOCK-----'), 'private key'],
    [joined('L', 'K', '-ABCDEF'.repeat(6)), 'license key'],
    [joined('ya', '29.', repeated(30)), 'Google OAuth'],
    [joined('GOC', 'SPX-', repeated(28)), 'Google OAuth'],
    [joined('py', 'pi-AgE', repeated(40)), 'PyPI'],
    [joined('h', 'f_', repeated(34)), 'Hugging Face'],
    [joined('do', 'p_v1_', '0123456789abcdef'.repeat(4)), 'DigitalOcean'],
    [joined('h', 'vs.', repeated(24)), 'Vault'],
    [joined('S', 'G.', repeated(22), '.', repeated(43)), 'SendGrid'],
    [joined('s', 'k-', repeated(48)), 'API key'],
    [joined('s', 'k-ant-', repeated(40)), 'API key'],
    [joined('AGE-', 'SECRET-KEY-1', 'QPZRY9X8'.repeat(8).slice(0, 58)), 'age key'],
  ])('%s', (token, what) => {
    expect(tokenShapeIn(`x ${token} y`)).toContain(what);
    expect(secretsInPair('HARMLESS', token)).toMatchObject([{ name: 'HARMLESS' }]);
  });

  test.each([
    joined('AK', 'IA', 'IOSFODNN7EXAMPLE'),
    '-----BEGIN PUBLIC KEY-----',
    '-----BEGIN CERTIFICATE-----',
    'A035C8C19219BA821ECEA86B64E628F8D684696D',
    'sha512-YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXo=',
    'npm_config_cache',
  ])('%s is none', (text) => {
    expect(tokenShapeIn(text)).toBeUndefined();
  });
});

describe('commands', () => {
  test.each([
    ['RUN |1 NPM_TOKEN=abcdef /bin/sh -c npm ci # buildkit', 'NPM_TOKEN', 'a build argument'],
    ['|2 VERSION=1 TOKEN=abc /bin/sh -c make', 'TOKEN', 'a build argument'],
    ['/bin/sh -c #(nop)  ENV DB_PASSWORD=hunter2', 'DB_PASSWORD', 'name'],
    ['ENV SECRET hunter2', 'SECRET', 'name'],
    ['ARG API_KEY=hunter2', 'API_KEY', 'name'],
    ['mysqld --password=hunter2', '--password', 'name'],
    ['app --api-key hunter2', '--api-key', 'command line'],
    ['["app" "--token" "hunter2"]', '--token', 'command line'],
    ['java -Dserver.ssl.key-store-password=hunter2', '-Dserver.ssl.key-store-password', 'name'],
    ['{"db":{"password":"hunter2"}}', 'password', 'name'],
    ['Server=db;Database=x;Password=hunter2;', 'Password', 'name'],
    ['git clone https://bob:hunter2@git.example/x', undefined, 'URL with a password'],
    ['curl -fsSL -u bob:hunter2 https://x.example', undefined, 'user and a password'],
    ['curl -H "Authorization: Bearer hunter2hunter2"', undefined, 'Authorization'],
  ])('%s', (text, name, reason) => {
    const found = secretsIn(text);
    expect(found.map((sighting) => sighting.name)).toEqual([name]);
    expect(found[0]?.reason).toContain(reason);
    expect(JSON.stringify(found)).not.toContain('hunter2');
  });

  test.each([
    'RUN --mount=type=secret,id=npmrc,target=/root/.npmrc npm ci # buildkit',
    'docker login --password-stdin registry.example',
    'PGPASSWORD="$POSTGRES_PASSWORD" psql -U "$POSTGRES_USER"',
    'curl https://$USER:$PASSWORD@example.com/x',
    'curl -u "$USER:$PASSWORD" https://x.example',
    'export GNUPGHOME="$(mktemp -d)"; gpg --batch --keyserver hkps://keys.openpgp.org --recv-keys 0123456789ABCDEF',
    'chown 1000:1000 /x && su --user 1000:1000',
    'ENTRYPOINT ["docker-entrypoint.sh"] CMD ["--token" "--verbose"]',
    'git clone git@github.com:acme/web.git',
    'echo "deb [signed-by=/usr/share/keyrings/x.gpg] https://deb.example.com/ stable main"',
    'docker run --user=nginx:nginx x',
  ])('%s shows nothing', (text) => {
    expect(secretsIn(text)).toEqual([]);
  });
});

test('whatever the text, a long one is read, and no value is ever given', () => {
  const noise = fc.string({
    unit: fc.constantFrom('=', '"', "'", '-', ' ', ':', '/', '@', '\\', 'a', 'ENV', '--token'),
    maxLength: 200,
  });
  fc.assert(
    fc.property(noise, noise, (before, after) => {
      const text = `${before} DB_PASSWORD=hunter2hunter2 ${after}`;
      expect(JSON.stringify(secretsIn(text))).not.toContain('hunter2');
      expect(JSON.stringify(secretsInPair('TOKEN', text))).not.toContain('hunter2');
    }),
  );
  for (const unit of ['a', 'a.', 'eyJ', 'a:', '://', '--a ', '"a":"', 'ENV A ', 'curl -u ', '-----BEGIN ']) {
    secretsIn(unit.repeat(1_000_000 / unit.length));
  }
});

test('a secret among anything is found', () => {
  const word = fc.stringMatching(/^[a-z/.]{0,20}$/);
  fc.assert(
    fc.property(
      fc.array(word),
      fc.array(word),
      fc.stringMatching(/^[A-Za-z0-9]{12,40}$/),
      (before, after, value) => {
        const text = [...before, `API_TOKEN=v${value}`, ...after].join(' ');
        expect(secretsIn(text).map(({ name }) => name)).toContain('API_TOKEN');
      },
    ),
  );
});
