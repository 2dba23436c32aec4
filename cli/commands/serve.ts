/**
 * `latchkey serve`: the key server. The command only checks its options and then becomes the server's own
 * program, so that process ids, signals and exit status are the server's.
 */
import { type Command, Option } from 'commander';
import type { CommandContext } from '../context.ts';
import { becomeProgram } from '../run-program.ts';

export function registerServe(program: Command, context: CommandContext): void {
  const serve = program.command('serve').description('run the key server');
  serve
    .option('--data <directory>', 'database, root key and first admin token (default: /var/lib/latchkey)')
    .option(
      '--database <url>',
      'PostgreSQL in place of SQLite: postgres://USER@HOST/DATABASE, or a file that holds the URL (default: $LATCHKEY_DATABASE)',
    )
    .option('--root-key <file>', 'root key, readable by its owner alone (default: DATA/root.key)')
    .option(
      '--root-key-token <uri>',
      'PKCS#11 URI of the RSA key that opens the root key, with pin-source= for the file of its PIN',
    )
    .option('--sealed', 'start sealed: open no key before `latchkey server unseal`')
    .option('--organization <name>', 'name for the certificates, at the first start')
    .option('--contact <line>', 'whom customers ask when a start is refused, at the first start')
    .option('--admin-listen <address>', 'admin API (default: 127.0.0.1:7440)')
    .option('--node-listen <address>', 'nodes, mutual TLS (default: 127.0.0.1:7443)')
    .option('--enroll-listen <address>', 'activation, TLS (default: 127.0.0.1:7444)')
    .option('--hostname <name...>', 'names and addresses under which nodes reach this server')
    .option('--admin-tls-cert <file>', 'certificate of the admin API (PEM), to listen beyond loopback')
    .option('--admin-tls-key <file>', 'its private key (PEM)')
    .option(
      '--after-restore',
      'once, after an older database was put in place on purpose: nodes trust it again',
    )
    .option(
      '--new-admin-token',
      'once, when no admin token works any more: write one for a day to DATA/admin.token',
    )
    .option('--node-certificate-life <span>', 'how long node certificates live, such as 30d (default: 365d)')
    .option(
      '--audit-checkpoints <directory>',
      'keep signed checkpoints of the audit log here, off the database disk',
    )
    .option(
      '--rate-limit <name=per-second/burst...>',
      'what one address, node, license or token may ask, such as node=20/300',
    )
    .option(
      '--audit-export <target...>',
      'copy the audit log: syslog+tls://HOST, syslog://HOST, https://HOST/PATH or file:PATH; may be repeated',
    )
    .option(
      '--drain-seconds <seconds>',
      'how long to serve after SIGTERM while /readyz already says no (default: 0)',
    )
    .option(
      '--metrics-listen <address>',
      'metrics for Prometheus over plain HTTP, without a token (default: off)',
    )
    .option('--webhook-allow-private', 'let webhooks go over http and into private networks')
    .addOption(new Option('--log-level <level>').choices(['debug', 'info', 'warn', 'error', 'silent']))
    .addHelpText(
      'after',
      '\nExample:\n  latchkey serve --data /var/lib/latchkey --node-listen 0.0.0.0:7443 --hostname keys.acme.example',
    )
    .action((options: Record<string, string | string[] | true>) => {
      becomeProgram('keyserver/main.js', toArguments(serve, options), context.env);
    });
}

/** The options as given, in the spelling of the server's own command line. */
function toArguments(serve: Command, options: Record<string, string | string[] | true>): string[] {
  return serve.options.flatMap((option) => {
    const value = options[option.attributeName()];
    if (value === undefined) return [];
    if (value === true) return [option.long ?? ''];
    return [value].flat().map((item) => `${option.long ?? ''}=${item}`);
  });
}
