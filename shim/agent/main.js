#!/usr/bin/env node
// The node agent. Plain JavaScript that any Node reads, so that an old one is told so in one line.
const [major] = process.versions.node.split('.').map(Number);
if (major < 24) {
  process.stderr.write(`latchkey: Node.js 24 or later is needed, this is ${process.versions.node}\n`);
  process.exit(78);
}
// gRPC sets an IP address as TLS server name, which Node deprecates: nothing an operator can act on.
process.noDeprecation = true;
const { main } = await import('./main.ts');
await main(process.argv.slice(2));
