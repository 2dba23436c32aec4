#!/usr/bin/env node
// The node agent's entry.
import { launch } from '../../src/base/launch.js';

// gRPC sets an IP address as TLS server name, which Node deprecates: nothing an operator can act on.
process.noDeprecation = true;
launch('agent', function () {
  return import('./main.ts');
});
