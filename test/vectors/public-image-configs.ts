/**
 * The parts of public images' configs that look most like secrets and are none: key fingerprints, checksums, versions,
 * paths and the shell scripts of their builds, shortened. After nginx, postgres, node, python, redis, rabbitmq, mysql,
 * keycloak, and a .NET and a Java runtime, as of 2026.
 */

const FINGERPRINTS = ['573BFD6B3D8FBC641079A6ABABF5BD827BD9BF62', '8540A6F18833A80E9C1653A42FD21310B49F6B46'];
const SHA256 = '524b75cc72657ce77d90cd25c305aba0a19a7f8a3e5dec8e1cc585cd7985663a';
const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export const PUBLIC_IMAGES: Readonly<Record<string, object>> = {
  nginx: {
    config: {
      Env: [PATH, 'NGINX_VERSION=1.27.4', 'NJS_VERSION=0.8.9', 'PKG_RELEASE=1~bookworm', 'DYNPKG_RELEASE=1~bookworm'],
      Entrypoint: ['/docker-entrypoint.sh'],
      Cmd: ['nginx', '-g', 'daemon off;'],
      Labels: { maintainer: 'NGINX Docker Maintainers <docker-maint@nginx.com>' },
    },
    history: [
      { created_by: "RUN # debian.sh --arch 'amd64' out/ 'bookworm' '@1783900800'" },
      { created_by: 'LABEL maintainer=NGINX Docker Maintainers <docker-maint@nginx.com>', empty_layer: true },
      {
        created_by:
          `RUN /bin/sh -c set -x && groupadd --system --gid 101 nginx && NGINX_GPGKEYS="${FINGERPRINTS.join(' ')}"; ` +
          'NGINX_GPGKEY_PATH=/etc/apt/keyrings/nginx-archive-keyring.gpg; export GNUPGHOME="$(mktemp -d)"; ' +
          'for NGINX_GPGKEY in $NGINX_GPGKEYS; do for server in hkp://keyserver.ubuntu.com:80 pgp.mit.edu ; do ' +
          'gpg1 --batch --keyserver "$server" --keyserver-options timeout=10 --recv-keys "$NGINX_GPGKEY"; done; done; ' +
          'echo "deb [signed-by=$NGINX_GPGKEY_PATH] https://nginx.org/packages/debian/ bookworm nginx" # buildkit',
      },
    ],
  },
  postgres: {
    config: {
      Env: [
        `${PATH}:/usr/lib/postgresql/16/bin`,
        'GOSU_VERSION=1.19',
        'LANG=en_US.utf8',
        'PG_MAJOR=16',
        'PG_VERSION=16.15-1.pgdg13+2',
        `PG_SHA256=${SHA256}`,
        'PGDATA=/var/lib/postgresql/data',
        'POSTGRES_PASSWORD_FILE=/run/secrets/postgres-password',
        'POSTGRES_HOST_AUTH_METHOD=scram-sha-256',
      ],
    },
    history: [
      {
        created_by:
          'RUN /bin/sh -c set -ex; key="B97B0AFCAA1A47F044F244A07FCC7D46ACCC4CF8"; export GNUPGHOME="$(mktemp -d)"; ' +
          'gpg --batch --keyserver keyserver.ubuntu.com --recv-keys "$key"; ' +
          'sed -ri "s!^#?(listen_addresses)\\s*=\\s*\\S+.*!\\1 = \'*\'!" postgresql.conf.sample # buildkit',
      },
    ],
  },
  node: {
    config: { Env: [PATH, 'NODE_VERSION=24.4.1', 'YARN_VERSION=1.22.22', 'NPM_CONFIG_LOGLEVEL=info'] },
    history: [
      {
        created_by:
          `RUN /bin/sh -c ARCH= OPENSSL_ARCH= && for key in ${FINGERPRINTS.join(' ')} ; do ` +
          '{ gpg --batch --keyserver hkps://keys.openpgp.org --recv-keys "$key" && gpg --batch --fingerprint "$key"; } ; ' +
          'done && curl -fsSLO --compressed "https://nodejs.org/dist/v$NODE_VERSION/SHASUMS256.txt.asc" ' +
          '&& gpgconf --kill all # buildkit',
      },
    ],
  },
  python: {
    config: {
      Env: [PATH, `GPG_KEY=${FINGERPRINTS[0] ?? ''}`, 'PYTHON_VERSION=3.13.5', `PYTHON_SHA256=${SHA256}`],
    },
    history: [{ created_by: `ENV PYTHON_GET_PIP_SHA256=${SHA256}`, empty_layer: true }],
  },
  redis: {
    config: { Env: [PATH, 'REDIS_DOWNLOAD_URL=http://download.redis.io/redis-7.tar.gz', `REDIS_DOWNLOAD_SHA=${SHA256}`] },
    history: [{ created_by: "RUN /bin/sh -c set -eux; grep -E '^ *createBoolConfig[(]\"protected-mode\",.*1.*[)],$' x" }],
  },
  rabbitmq: {
    config: {
      Env: [
        PATH,
        `OPENSSL_PGP_KEY_IDS=0x${FINGERPRINTS[0] ?? ''} 0x${FINGERPRINTS[1] ?? ''}`,
        `RABBITMQ_PGP_KEY_ID=0x${FINGERPRINTS[1] ?? ''}`,
        `OTP_SOURCE_SHA256=${SHA256}`,
      ],
    },
  },
  mysql: {
    config: { Env: [PATH, 'MYSQL_MAJOR=8.4', 'MYSQL_SHELL_VERSION=8.4.6-1.el9'] },
    history: [
      {
        created_by:
          'RUN /bin/sh -c { echo "[mysql8.4]"; echo "gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-mysql"; } | tee x.repo',
      },
      { created_by: 'CMD ["mysqld"]', empty_layer: true },
    ],
  },
  keycloak: {
    config: { Env: [PATH, 'KC_RUN_IN_CONTAINER=true'], Labels: { 'io.k8s.display-name': 'Keycloak', 'vcs-ref': 'abc' } },
  },
  dotnet: {
    config: {
      Env: [PATH, 'ASPNETCORE_HTTP_PORTS=8080', 'DOTNET_GENERATE_ASPNET_CERTIFICATE=false', 'NUGET_XMLDOC_MODE=skip'],
    },
  },
  java: {
    config: {
      Env: [PATH, 'JAVA_VERSION=jdk-21.0.8+9', 'JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStorePassword=changeit'],
      Cmd: ['jshell'],
    },
    history: [{ created_by: 'RUN /bin/sh -c keytool -importcert -storepass changeit -file "$BINARY_URL" # buildkit' }],
  },
};
