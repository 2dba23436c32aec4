/** Parsers of where the key server sends what happened: copies of the audit log, and webhooks. */
import { InvalidArgumentError } from 'commander';
import { parseWebhookEvents, parseWebhookUrl } from '../../cli/name-arguments.ts';
import { parseExportTarget, parseExportTargets } from '../../keyserver/audit/export/export-target.ts';
import { type HostileParser, textParser } from './hostile-parser.ts';

const typed = { isTyped: true };
const argument = { ...typed, raises: InvalidArgumentError };
const TARGETS = [
  'syslog+tls://logs.acme.example#ca-file=/x',
  'file:/var/log/audit.jsonl',
  'https://logs.acme.example/#token-file=/x',
];
const EXPORTS = 'keyserver/audit/export/export-target.ts';
const ARGUMENTS = 'cli/name-arguments.ts';

export const RECEIVER_PARSERS: readonly HostileParser[] = [
  textParser(EXPORTS, 'parseExportTarget', TARGETS, parseExportTarget, typed),
  textParser(
    EXPORTS,
    'parseExportTargets',
    ['file:/a file:/b'],
    (text) => parseExportTargets(text.split(' ')),
    typed,
  ),
  textParser(ARGUMENTS, 'parseWebhookUrl', ['https://crm.acme.example/'], parseWebhookUrl, argument),
  textParser(ARGUMENTS, 'parseWebhookEvents', ['license.*'], (text) => parseWebhookEvents(text), argument),
];
