/**
 * Builds what is handed out, into `dist/`: `npm run package`.
 *
 *   node scripts/package.ts [--directory <directory>] [--architecture x64|arm64]... [--quick]
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ERROR_TABLE, toLatchkeyError } from '#src/base/errors.ts';
import { buildDistribution } from '../deploy/distribution.ts';
import { ARCHITECTURES } from '../deploy/executable/node-binary.ts';

const { values } = parseArgs({
  options: {
    directory: { type: 'string', default: join(import.meta.dirname, '..', 'dist') },
    /** Does not compress much: for tests. */
    quick: { type: 'boolean', default: false },
    architecture: { type: 'string', multiple: true, default: [...ARCHITECTURES] },
  },
});

try {
  const { directory, quick } = values;
  const architectures = ARCHITECTURES.filter((name) => values.architecture.includes(name));
  const { checksums } = await buildDistribution({ directory, architectures, quick });
  process.stdout.write(`built; checksums are in ${checksums}\n`);
} catch (error) {
  const known = toLatchkeyError(error);
  process.stderr.write(`latchkey: ${known.line}\n`);
  process.exitCode = ERROR_TABLE[known.code].exit;
}
