#!/usr/bin/env node
// The stream processor that Node runs. The agent that installs it names the Node to use: its own.
const { main } = await import('./node-processor.ts');
await main(process.argv.slice(2));
