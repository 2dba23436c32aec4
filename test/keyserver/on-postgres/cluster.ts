/** Starts the one PostgreSQL that all key servers of these tests share. */
import type { TestProject } from 'vitest/node';
import { FORGETFUL, startPostgres } from '../../../lab/postgres.ts';

declare module 'vitest' {
  interface ProvidedContext {
    postgresUrl: string;
  }
}

export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const postgres = await startPostgres({ settings: FORGETFUL });
  project.provide('postgresUrl', postgres.url);
  return () => postgres.dispose();
}
