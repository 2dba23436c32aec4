/** Before each test file: its key servers keep their data on the PostgreSQL of the run. */
import { inject } from 'vitest';
import { useTestPostgres } from '../../../lab/server-database.ts';

useTestPostgres(inject('postgresUrl'));
