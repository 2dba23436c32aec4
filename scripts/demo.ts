/**
 * `npm run demo`: Latchkey's whole promise on this machine, with real parts. Everything it starts is its own,
 * lives below one temporary directory and is gone at the end, also after Ctrl-C.
 */
import { LatchkeyError, toLatchkeyError } from '#src/base/errors.ts';
import { DemoWorld } from './demo/demo-world.ts';
import { Narrator } from './demo/narrator.ts';
import { runStory } from './demo/story.ts';

const STEPS = 8;

async function main(): Promise<number> {
  const narrator = new Narrator(STEPS);
  const world = await DemoWorld.create(narrator);
  const interrupted = new Promise<never>((_resolve, reject) => {
    for (const name of ['SIGINT', 'SIGTERM'] as const) {
      process.once(name, () => {
        reject(new LatchkeyError('INTERRUPTED', 'interrupted'));
      });
    }
  });
  try {
    await Promise.race([runStory(world, narrator), interrupted]);
    return 0;
  } catch (error) {
    const known = toLatchkeyError(error);
    process.stderr.write(`\nlatchkey demo: ${known.line}\n`);
    if (known.code === 'INTERRUPTED') return 130;
    process.stderr.write(
      `${error instanceof Error ? (error.stack ?? '') : ''}\n${await world.lastLogLines()}\n`,
    );
    return 1;
  } finally {
    await world.stop();
  }
}

process.exit(await main());
