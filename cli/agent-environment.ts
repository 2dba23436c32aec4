/** What the agent's process is started with. Measured: docs/decisions.md. */

type Environment = Readonly<Record<string, string | undefined>>;

/** Pure: this environment with what keeps a process small that runs for months. */
export function agentEnvironment(env: Environment): Environment {
  return {
    ...env,
    // One malloc arena: with many, buffers of worker threads are faulted in again and again (-28 % CPU).
    MALLOC_ARENA_MAX: '1',
    // V8 otherwise lets short-lived objects of many small calls fill 16 MiB and more before it looks at them, and keeps
    // four threads for itself.
    NODE_OPTIONS: [env['NODE_OPTIONS'], '--max-semi-space-size=1', '--v8-pool-size=1']
      .filter(Boolean)
      .join(' '),
  };
}
