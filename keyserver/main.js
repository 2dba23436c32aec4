#!/usr/bin/env node
// The key server's entry.
import { launch } from '../src/base/launch.js';

launch('keyserver', function () {
  return import('./main.ts');
});
