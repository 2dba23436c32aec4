/**
 * Loaded into a program before itself (`node --import`): its wall clock is as far ahead as a file says, or behind. The clock
 * that counts from the boot goes on as it does.
 */
import { readFileSync } from 'node:fs';

const trueNowMs = Date.now.bind(Date);

Date.now = () => trueNowMs() + Number(readFileSync(process.env['LATCHKEY_LAB_CLOCK'] ?? '', 'utf8'));
