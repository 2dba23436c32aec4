#!/usr/bin/env node
// The entry of the installer and the doctor.
import { launch } from '../../src/base/launch.js';

launch('install', function () {
  return import('./main.ts');
});
