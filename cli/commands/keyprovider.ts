/** `latchkey keyprovider`: one call of ocicrypt's key provider protocol, a document on stdin and one on stdout. */
import type { Command } from 'commander';
import { LatchkeyError } from '#src/base/errors.ts';
import { type CommandContext, variable } from '../context.ts';

const DEFAULT_SOCKET = '/run/latchkey/key-provider.sock';

const HELP = `
Other tools start this; a person does not. It makes them encrypt for, and decrypt with, a Latchkey key server.
Name it in the file that OCICRYPT_KEYPROVIDER_CONFIG names, under the name latchkey:
  {"key-providers": {"latchkey": {"cmd": {"path": "latchkey", "args": ["keyprovider"]}}}}

To encrypt:  skopeo copy --encryption-key provider:latchkey:image-key=FILE ...   (latchkey image-key create --help)
To decrypt:  skopeo copy --decryption-key provider:latchkey ...   on a licensed node, as root, with
             [key_provider] socket = "${DEFAULT_SOCKET}" in the agent's configuration

What these tools decrypt is plain on their disk, stays there after a revocation, and starts without a question.
Only starts on the latchkey snapshotter are gated.`;

export function registerKeyProvider(program: Command, context: CommandContext): void {
  const socket = variable(context, 'LATCHKEY_KEY_PROVIDER_SOCKET') ?? DEFAULT_SOCKET;
  program
    .command('keyprovider')
    .description('be the key provider of skopeo, buildah, podman, CRI-O or nerdctl (ocicrypt protocol)')
    .option('--socket <path>', "the agent's key provider socket (LATCHKEY_KEY_PROVIDER_SOCKET)", socket)
    .addHelpText('after', HELP)
    .action(async (options: { readonly socket: string }) => {
      const input = process.stdin.isTTY ? undefined : context.pipes?.input();
      if (input === undefined) {
        throw new LatchkeyError('USAGE_INVALID', 'latchkey keyprovider takes a request on standard input', {
          hint: 'other tools start it; see latchkey keyprovider --help',
        });
      }
      const { answerProviderRequest, readRequest } = await import('../key-provider-request.ts');
      const answer = await answerProviderRequest(await readRequest(input), options.socket, context.signal);
      context.stdout.write(Buffer.from(answer).toString());
    });
}
