/**
 * What the gate has said lately: each start that was allowed and each that was not, counted, and the last denials kept for
 * whoever asks. Containers that fail are tried again without end, so the same denial is news once a minute.
 */
import type { Clock } from '#src/base/clock.ts';
import type { LatchkeyError } from '#src/base/errors.ts';

/** Of denials that are kept. */
const MAX_RECENT = 20;
/** The same denial of the same container is told once in this time. */
const SAME_DENIAL_MS = 60_000;
/** containerd asks for mounts two or three times for one start. */
const SAME_START_MS = 10_000;
/** Of containers and layers that are remembered for this. */
const MAX_REMEMBERED = 1000;

export interface StartDenial {
  readonly timeMs: number;
  readonly error: LatchkeyError;
  /** Digest of the image; '' = not known. */
  readonly image: string;
  readonly namespace: string;
  /** containerd's name for the container's snapshot, or the layer that was refused. */
  readonly key: string;
}

export interface StartRecordEvents {
  readonly onAllowed: (start: { readonly namespace: string; readonly key: string }) => void;
  /** @param count how often it happened since it was told last, this time included */
  readonly onDenied: (denial: StartDenial, count: number) => void;
}

export class StartRecord {
  readonly #clock: Clock;
  readonly #events: StartRecordEvents;
  readonly #recent: StartDenial[] = [];
  readonly #denials = new Map<string, { toldAtMs: number; untold: number }>();
  readonly #starts = new Map<string, number>();

  constructor(clock: Clock, events: StartRecordEvents) {
    this.#clock = clock;
    this.#events = events;
  }

  /** The last denials, newest first; one that repeats is there once. */
  recent(): readonly StartDenial[] {
    return this.#recent;
  }

  allowed(namespace: string, key: string): void {
    const nowMs = this.#clock.monotonicMs();
    const name = `${namespace}/${key}`;
    const before = this.#starts.get(name);
    remember(this.#starts, name, nowMs);
    if (before === undefined || nowMs - before >= SAME_START_MS) this.#events.onAllowed({ namespace, key });
  }

  denied(denial: Omit<StartDenial, 'timeMs'>): void {
    const told = { ...denial, timeMs: this.#clock.nowMs() };
    const isSame = (other: StartDenial): boolean => nameOf(other) === nameOf(told);
    const place = this.#recent.findIndex(isSame);
    if (place !== -1) this.#recent.splice(place, 1);
    this.#recent.unshift(told);
    this.#recent.splice(MAX_RECENT);
    const nowMs = this.#clock.monotonicMs();
    const known = this.#denials.get(nameOf(told));
    if (known !== undefined && nowMs - known.toldAtMs < SAME_DENIAL_MS) {
      known.untold += 1;
      return;
    }
    remember(this.#denials, nameOf(told), { toldAtMs: nowMs, untold: 0 });
    this.#events.onDenied(told, (known?.untold ?? 0) + 1);
  }
}

/** kubelet makes a new container for each try, so only what the try is about can tell that it is the same. */
function nameOf({ error, image, namespace, key }: Omit<StartDenial, 'timeMs'>): string {
  return [error.code, error.licenseId, namespace, image === '' ? key : image].join(' ');
}

function remember<Value>(map: Map<string, Value>, key: string, value: Value): void {
  map.delete(key);
  map.set(key, value);
  const [oldest] = map.keys();
  if (oldest !== undefined && map.size > MAX_REMEMBERED) map.delete(oldest);
}
