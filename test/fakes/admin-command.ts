/** `latchkey` in this process, as the administrator of a key server. */
import { systemClock } from '#src/base/clock.ts';
import { HostLimit } from '#src/registry/host-limit.ts';
import { run } from '../../cli/main.ts';
import type { TestKeyServer } from '../../lab/keyserver.ts';

/** Runs the command and gives what it has written to stdout and stderr. */
export async function adminCommand(
  server: Pick<TestKeyServer, 'adminUrl' | 'adminToken'>,
  ...args: string[]
): Promise<string> {
  let text = '';
  const out = { write: (written: string) => (text += written) };
  await run(args, {
    stdout: out,
    stderr: out,
    env: { LATCHKEY_SERVER: server.adminUrl, LATCHKEY_TOKEN: server.adminToken },
    clock: systemClock,
    hostLimit: new HostLimit(1),
    signal: new AbortController().signal,
  });
  return text;
}
