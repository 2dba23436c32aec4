#!/usr/bin/env node
// The command's entry.
import { launch } from '../src/base/launch.js';

launch('latchkey', function () {
  return import('./main.ts');
});
