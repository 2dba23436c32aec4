/** Every bound Latchkey sets, with its reason. A bound that only one file needs still lives here. */

const KIBIBYTE = 1024;
const MEBIBYTE = 1024 * KIBIBYTE;
const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;

/** Registries refuse manifests above 4 MiB (distribution spec); a larger one is an attack on memory. */
export const MAX_MANIFEST_BYTES = 4 * MEBIBYTE;
/** Image configs are small JSON; the same bound as manifests. */
export const MAX_CONFIG_BYTES = 4 * MEBIBYTE;
/** Error bodies and token answers are a few hundred bytes; more is an attack on memory. */
export const MAX_REGISTRY_ERROR_BYTES = 64 * KIBIBYTE;
/** One annotation value; ocicrypt envelopes with 32 recipients stay far below. */
export const MAX_ANNOTATION_BYTES = 64 * KIBIBYTE;
/** Wrapped keys per layer: each costs one asymmetric operation to try. */
export const MAX_WRAPPED_KEYS = 32;
/** Layers per image: overlayfs refuses more than 500 lower directories, containerd images stay below 128. */
export const MAX_LAYERS = 512;
/** Depth of nested image indexes. */
export const MAX_INDEX_DEPTH = 4;
/** Entries in one image index. */
export const MAX_INDEX_ENTRIES = 256;

/** The head of a layer by which the agent knows it when containerd sends no payload. */
export const LAYER_HEAD_BYTES = 4096;
/** A pipe read never returns more than the pipe's 64 KiB buffer (measured: larger buffers only wait). */
export const PIPE_CHUNK_BYTES = 64 * KIBIBYTE;
/** Chunk of file-to-file work; smaller ones lose to thread wake-ups (measured). */
export const FILE_CHUNK_BYTES = MEBIBYTE;
/** Random bytes after a layer's end marker that make its diff ID unique (chain IDs are shared between images). */
export const LAYER_SALT_BYTES = 512;
/** Plaintext held back until MAC and digest are verified; a tar without its tail cannot be committed. */
export const HELD_BACK_BYTES = 64 * KIBIBYTE;

/** The JSON payload containerd hands to a stream processor: one descriptor with its annotations. */
export const MAX_PROCESSOR_PAYLOAD_BYTES = MEBIBYTE;

/** A node whose clock differs more than this from the key server's is refused (keyserver model 6.3). */
export const MAX_CLOCK_SKEW_MS = 5 * MINUTE_MS;
/** Default life of a lease: survives an outage night. */
export const DEFAULT_LEASE_DURATION_MS = 24 * HOUR_MS;
/** The shortest lease a license may ask for; shorter ones would only load the server. */
export const MIN_LEASE_DURATION_MS = SECOND_MS;
/** The longest lease a license may ask for: it is the revocation bound of a node that is cut off. */
export const MAX_LEASE_DURATION_MS = 30 * 24 * HOUR_MS;
/** Leases are renewed after this part of their life ... */
export const LEASE_RENEW_FRACTION = 1 / 3;
/** ... give or take this part of it, so that nodes do not come all at once. */
export const LEASE_RENEW_JITTER = 0.1;
/** The revocation stream says it is alive this often ... */
export const WATCH_HEARTBEAT_MS = 15 * SECOND_MS;
/** ... and a node reconnects when it has heard nothing for this long. */
export const WATCH_DEAD_AFTER_MS = 45 * SECOND_MS;
/** How long a start may wait for the key server; kubelet's own limit for a CRI call is 2 minutes. */
export const KEY_SERVER_CALL_TIMEOUT_MS = 5 * SECOND_MS;
/** How long a node certificate lives before the agent must rotate it. */
export const NODE_CERTIFICATE_LIFETIME_MS = 90 * 24 * HOUR_MS;
/** Leases renewed in one call. */
export const MAX_LEASES_PER_RENEWAL = 100;
