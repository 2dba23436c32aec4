/** Limits of the key server alone; each says why it is what it is. */
import {
  MAX_OFFLINE_REQUESTS,
  MAX_OFFLINE_REQUEST_CHARACTERS,
  MAX_STATEMENT_ENVELOPE_BYTES,
  STAGED_PUSH_AGE_MS,
} from '#src/base/limits.ts';
import { DAY_MS, HOUR_MS, KIBIBYTE, MEBIBYTE, MINUTE_MS, SECOND_MS } from '#src/base/units.ts';

/** An image key made for a release that never came; longer than the ciphertext waits that needs it. */
export const PENDING_IMAGE_KEY_AGE_MS = 2 * STAGED_PUSH_AGE_MS;
/** Image keys are destroyed at most this long after their day has come. */
export const IMAGE_KEY_SWEEP_INTERVAL_MS = 10 * MINUTE_MS;
/** The revocation stream says it is alive this often ... */
export const WATCH_HEARTBEAT_MS = 15 * SECOND_MS;
/** Nodes whose changes are read together: more would hold up starts, which come in between. */
export const MAX_CHANGE_QUESTIONS = 128;
/** How long a node certificate lives unless the key server is told otherwise: the longest a node may be switched off. */
export const NODE_CERTIFICATE_LIFETIME_MS = 365 * 24 * HOUR_MS;
/** Body of an admin request: the largest is a release with its platform digests. */
export const MAX_ADMIN_BODY_BYTES = 256 * KIBIBYTE;
/** Body of a release's registration: its statement, whose every quote JSON escapes, and the rest of an admin request. */
export const MAX_RELEASE_BODY_BYTES = 2 * MAX_STATEMENT_ENVELOPE_BYTES + MAX_ADMIN_BODY_BYTES;
/** Body of a check-out: the requests of all its nodes, and the rest of an admin request. */
export const MAX_CHECK_OUT_BODY_BYTES =
  MAX_OFFLINE_REQUESTS * MAX_OFFLINE_REQUEST_CHARACTERS + MAX_ADMIN_BODY_BYTES;
/** An admin request that has not arrived whole by then is cut off; the largest takes a second on a slow line. */
export const ADMIN_REQUEST_TIMEOUT_MS = 30 * SECOND_MS;
/** ... and its headers, which are a few hundred bytes, by then. */
export const ADMIN_HEADERS_TIMEOUT_MS = 10 * SECOND_MS;
/** How much later than that a slow connection may be found. */
export const CONNECTION_CHECK_INTERVAL_MS = SECOND_MS;
/** Path and headers of an admin request: a name of 1,024 characters, a token and a cursor are below 4 KiB. */
export const MAX_ADMIN_HEADER_BYTES = 16 * KIBIBYTE;
/** Connections to the admin API: people, pipelines and monitoring. */
export const MAX_ADMIN_CONNECTIONS = 1000;
/** A name in the path of an admin request: the longest customer name, percent-encoded, fits in a URL like this. */
export const MAX_PATH_PARAMETER = 1024;
/** Life of an API token that asks for none: somebody looks at each every season. */
export const API_TOKEN_LIFETIME_MS = 90 * 24 * HOUR_MS;
/** Longest life of an API token; one that outlives the year outlives who made it. */
export const MAX_API_TOKEN_LIFETIME_MS = 366 * 24 * HOUR_MS;
/** Life of an admin token that was made to get back in: enough to make others. */
export const RECOVERY_TOKEN_LIFETIME_MS = 24 * HOUR_MS;
/** Refusals of strangers are written together, one event of each kind in this time. */
export const REFUSAL_AUDIT_INTERVAL_MS = MINUTE_MS;
/** Addresses that are told apart in one such event. */
export const MAX_TALLIED_ADDRESSES = 1000;
/** The last use of an API token is written this often at most, so that reading costs no write each time. */
export const TOKEN_USE_PRECISION_MS = MINUTE_MS;
/**
 * Requests without a valid token from one address; a program with an old token
 * tries that often until somebody sees it. A valid token from the same address is served all the same.
 */
export const FAILED_AUTHENTICATIONS_RATE = { perSecond: 1, burst: 100 } as const;
/**
 * Activations from one address, and as many challenges and proofs: a site behind one address sets up a cluster at once,
 * guessing gains nothing, and each writes to the database.
 */
export const ADDRESS_RATE = { perSecond: 5, burst: 60 } as const;
/** Calls of one node: one that starts all of its 250 containers at once, and asks again for each. */
export const NODE_RATE = { perSecond: 20, burst: 500 } as const;
/**
 * Decisions under one license: two calls of each of 10,000 nodes that come back together, then a part of what a server
 * can do, so that one customer's fleet leaves room for the others.
 */
export const LICENSE_RATE = { perSecond: 500, burst: 20_000 } as const;
/** Requests with one API token: a pipeline or an inventory in a loop; an import of thousands waits, and goes on by itself. */
export const TOKEN_RATE = { perSecond: 200, burst: 2000 } as const;
/** Beyond it a limit limits nothing. */
export const MAX_RATE_BURST = 1_000_000;
/** Addresses, nodes, licenses or tokens that are counted at once: a reconnect of 10,000 nodes and more; some hundred bytes each. */
export const MAX_COUNTED_CALLERS = 50_000;
/** Keys of nodes that are kept ready; each takes a kibibyte or two. */
export const MAX_CACHED_NODE_KEYS = 10_000;
/**
 * Calls of nodes that are under way at once: what is answered in about a second. Nodes wait for five, and then ask again.
 */
export const MAX_NODE_CALLS = 2000;
/** Enrollments that are under way at once: each costs a certificate, so they take as long. */
export const MAX_ENROLLMENT_CALLS = 200;
/** Who is turned away comes back after this at least ... */
export const BUSY_RETRY_AFTER_MS = SECOND_MS;
/** ... and this longer at most, so that not all come at once again. */
export const BUSY_RETRY_SPREAD_MS = 2 * SECOND_MS;
/** How long a node has to sign a challenge: one call and one signature by a slow token. */
export const CHALLENGE_LIFETIME_MS = MINUTE_MS;
/** How far apart the clocks of key servers on one database may be: what one issues, another checks. */
export const MAX_SERVER_CLOCK_SKEW_MS = 10 * SECOND_MS;
/** Longest life of a certificate for a TLS key, which lies in the memory of a node whose node key is on a token. */
export const TLS_CERTIFICATE_LIFETIME_MS = 24 * HOUR_MS;
/** Connections of nodes to one key server: one each of 10,000, old ones of which may linger. */
export const MAX_NODE_CONNECTIONS = 20_000;
/** ... and of one node: an agent has one, and one more while it changes its certificate; the rest has lost its other end. */
export const MAX_CONNECTIONS_PER_NODE = 8;
/** Connections in their handshake: what a server does in a second or two, so that who waits longer tries again. */
export const MAX_PENDING_HANDSHAKES = 1000;
/** A handshake is two round trips; who takes longer is on no network that a stream would live on. */
export const TLS_HANDSHAKE_TIMEOUT_MS = 10 * SECOND_MS;
/**
 * Connections that wait in the kernel, where they cost nothing, until the server gets to them. Beyond it the kernel has the other
 * end try again, after one second, three, seven. Linux allows no more unless net.core.somaxconn is raised.
 */
export const ACCEPT_BACKLOG = 4096;
/** How long a node may be away and come back with a ticket: an outage that nobody has mended by then is rare. */
export const TLS_TICKET_LIFETIME_MS = 24 * HOUR_MS;
/** Calls at once over one connection; an agent has half as many under way at most, and its stream. */
export const MAX_CALLS_PER_CONNECTION = 64;
/** A message from a node: a certificate request is the largest, about one kibibyte. */
export const MAX_NODE_MESSAGE_BYTES = 64 * KIBIBYTE;
/**
 * Requests committed together. Eight share an fsync well; larger groups make client and server take turns
 * instead of working side by side (measured).
 */
export const MAX_COMMIT_GROUP = 8;
/** How long a second key server waits for the database of the first before it gives up. */
export const DATABASE_LOCK_TIMEOUT_MS = 2 * SECOND_MS;
/** A database up to this size is checked page by page at start; a larger one would delay it by seconds. */
export const MAX_START_CHECK_BYTES = 512 * MEBIBYTE;
/**
 * Kept on the disk of SQLite for what has to be written when it is full: the log of writes ahead, which grows to four
 * mebibytes before it begins anew, and as much again for some thousand revocations.
 */
export const RESERVE_BYTES = 8 * MEBIBYTE;
/** Given back at once: each revocation takes some ten kibibytes, and whoever filled the disk may take what is over. */
export const RESERVE_STEP_BYTES = MEBIBYTE;
/** Below it the alarm is raised: room for some hundred thousand starts, which is time for somebody to come. */
export const DISK_LOW_BYTES = 256 * MEBIBYTE;
/** How soon a disk is found to be filling up, or to have room again. */
export const DISK_CHECK_INTERVAL_MS = 2 * SECOND_MS;
/** Longest wait of a server that is told to stop; a load balancer that takes longer to look is broken. */
export const MAX_DRAIN_SECONDS = 300;
/** How long a stopping server waits for calls that are under way. */
export const SHUTDOWN_GRACE_MS = 5 * SECOND_MS;
/** The key server makes a new certificate for itself at every start; this is for those that never restart. */
export const SERVER_CERTIFICATE_LIFETIME_MS = 397 * 24 * HOUR_MS;
/** Life of the organization's certificate authority. */
export const AUTHORITY_LIFETIME_MS = 3650 * 24 * HOUR_MS;
/** Answers are kept this long for repeats: a day covers a CI job that is started again. */
export const IDEMPOTENT_ANSWER_AGE_MS = 24 * HOUR_MS;
/** Connections of one key server to PostgreSQL: one writes, the others read; its default is 100 for all. */
export const MAX_DATABASE_CONNECTIONS = 8;
/** Statements that one connection keeps prepared, some ten kibibytes each; the code has fewer, but lists differ in length. */
export const MAX_PREPARED_STATEMENTS = 256;
/** How long to wait for a connection to PostgreSQL before a request is told that it is away. */
export const DATABASE_CONNECT_TIMEOUT_MS = 2 * SECOND_MS;
/** ... before a program of the administrator is: nobody queues behind it, and a PostgreSQL that is busy lets it in late. */
export const PROGRAM_CONNECT_TIMEOUT_MS = 10 * SECOND_MS;
/** ... and how long a statement of it may wait for its turn among those of key servers that run. */
export const PROGRAM_STATEMENT_TIMEOUT_MS = MINUTE_MS;
/** A statement of ours takes milliseconds; a writer that waits longer for its turn is refused. */
export const DATABASE_STATEMENT_TIMEOUT_MS = 5 * SECOND_MS;
/** How long to wait for an answer of a PostgreSQL that may be gone: a little longer than it may take. */
export const DATABASE_ANSWER_TIMEOUT_MS = 6 * SECOND_MS;
/** After it PostgreSQL ends the transaction of a key server that hangs, and so frees the lock of all writers. */
export const DATABASE_IDLE_TRANSACTION_TIMEOUT_MS = 5 * SECOND_MS;
/** Pause before listening again for what other processes announce. */
export const DATABASE_RECONNECT_MS = SECOND_MS;
/** Node ids in one announcement: PostgreSQL carries 8000 bytes; beyond it, everybody looks. */
export const MAX_ANNOUNCED_NODES = 100;
/** How long an event waits for a signed checkpoint at most. */
export const AUDIT_CHECKPOINT_INTERVAL_MS = SECOND_MS;
/** How soon what is in the audit log goes on to where it is copied. */
export const AUDIT_FOLLOW_INTERVAL_MS = SECOND_MS;
/** Events handed on at once: some hundred kibibytes, and a millisecond of the process that serves releases. */
export const AUDIT_FOLLOW_BATCH = 256;
/** A receiver that has not taken a batch by then counts as away. */
export const AUDIT_FOLLOW_TIMEOUT_MS = 30 * SECOND_MS;
/** A receiver that is away is tried this often at least. */
export const AUDIT_FOLLOW_MAX_PAUSE_MS = MINUTE_MS;
/** The authorities of a whole system are a quarter of it. */
export const MAX_CERTIFICATE_FILE_BYTES = MEBIBYTE;
/** A key and a certificate in PEM have some 1.5 kibibytes. */
export const MAX_LISTENER_CERTIFICATE_BYTES = 16 * KIBIBYTE;
/** Attempts to unseal from one address: everybody who holds a share, and some who mistype; each may derive a key. */
export const UNSEAL_RATE = { perSecond: 1, burst: 60 } as const;
/** Shares that wait for the others are forgotten after it: people who are called together come within the hour. */
export const GIVEN_SHARE_AGE_MS = HOUR_MS;
/** Each is looked after once a second. */
export const MAX_WEBHOOK_ENDPOINTS = 20;
/** A receiver that has not answered by then counts as away; Standard Webhooks advises 15 to 30 seconds. */
export const WEBHOOK_TIMEOUT_MS = 15 * SECOND_MS;
/** An endpoint that has failed for so long is disabled: nobody has looked over a weekend. */
export const WEBHOOK_GIVE_UP_MS = 3 * 24 * HOUR_MS;
/** Tries that are kept of each endpoint. */
export const MAX_WEBHOOK_ATTEMPTS = 100;
/** How soon a new endpoint hears of events. */
export const WEBHOOK_LOOK_INTERVAL_MS = SECOND_MS;
/** Pages that are copied between two writes, 4 MiB: some ten milliseconds that others wait, and few turns under load. */
export const SNAPSHOT_PAGES_AT_ONCE = 1024;
/** Whoever takes nothing of a backup for so long has gone; until then others wait with theirs. */
export const BACKUP_PATIENCE_MS = 30 * SECOND_MS;
/** PostgreSQL keeps old rows for a backup; should its key server hang, no longer than this, which is longer than one waits. */
export const MAX_SNAPSHOT_PAUSE_MS = MINUTE_MS;
/** Rows that are read, or written, at once for a backup: some hundred kibibytes. */
export const BACKUP_ROWS_AT_ONCE = 100;
/** A backup is sealed in pieces of it; whoever opens it has one in memory. */
export const BACKUP_CHUNK_BYTES = 64 * KIBIBYTE;
/** What stands before the sealed part of a backup: the slots of the root key, of two kibibytes at most each. */
export const MAX_BACKUP_HEADER_BYTES = 256 * KIBIBYTE;
/** How long the doctor waits for the key server that it looks at, on the same machine. */
export const DOCTOR_ANSWER_TIMEOUT_MS = 5 * SECOND_MS;
/**
 * Leases are kept so long after their end: longer than any license lets them last and be used, so that what is asked
 * about a customer's last season has an answer. Chains of leases find a copied node that comes back within it.
 */
export const LEASE_RETENTION_MS = 90 * DAY_MS;
/** How often those beyond it are looked for; each time every older one is looked at. */
export const LEASE_SWEEP_INTERVAL_MS = 6 * HOUR_MS;
/** Leases that are looked at, and deleted, in one step: some milliseconds that others wait ... */
export const ENDED_LEASES_AT_ONCE = 100;
/** ... and how long they have their turn before the next. */
export const ENDED_LEASES_PAUSE_MS = 50;
/** Leases are counted for the metrics this often at most: 100,000 take a third of a second (measured). */
export const LEASE_COUNT_AGE_MS = MINUTE_MS;
/** Licenses whose leases are counted in one step: some milliseconds that others wait. */
export const LICENSES_COUNTED_AT_ONCE = 100;
