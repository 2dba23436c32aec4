/** Every bound Latchkey sets, with its reason; those of the key server alone are in keyserver/limits.ts. */
import { HOUR_MS, KIBIBYTE, MEBIBYTE, MINUTE_MS, SECOND_MS } from './units.ts';

/** Registries refuse manifests above 4 MiB (distribution spec); a larger one is an attack on memory. */
export const MAX_MANIFEST_BYTES = 4 * MEBIBYTE;
/** Image configs are small JSON; the same bound as manifests. */
export const MAX_CONFIG_BYTES = 4 * MEBIBYTE;
/** Error bodies and token answers are a few hundred bytes; more is an attack on memory. */
export const MAX_REGISTRY_ERROR_BYTES = 64 * KIBIBYTE;
/** One annotation value; ocicrypt envelopes with 32 recipients stay far below. */
export const MAX_ANNOTATION_BYTES = 64 * KIBIBYTE;
/** A media type: 127 characters for each of its two names (RFC 6838, section 4.2). */
export const MAX_MEDIA_TYPE_CHARACTERS = 255;
/** Wrapped keys per layer: each costs one asymmetric operation to try. */
export const MAX_WRAPPED_KEYS = 32;
/** A key file: the largest are exported PGP keys with many signatures and a photo. */
export const MAX_KEY_FILE_BYTES = MEBIBYTE;
/** A PKCS#11 key file or ocicrypt.conf: a few lines; the check for equal keys grows with the square of their number. */
export const MAX_PKCS11_FILE_BYTES = 16 * KIBIBYTE;
/** The address of a webhook; servers and proxies take no longer ones for sure. */
export const MAX_WEBHOOK_URL = 2048;
/** Kinds of events of one webhook; whoever wants more wants `*`. */
export const MAX_WEBHOOK_EVENTS = 50;
/** What a node says of itself with all its leases, images and containers: some hundred kibibytes, on a large one a few mebibytes. */
export const MAX_NODE_STATUS_BYTES = 16 * MEBIBYTE;
/** A file with an API token alone, and perhaps a line end. */
export const MAX_TOKEN_FILE_BYTES = 4 * KIBIBYTE;
/** A password; peers read at most 64 bytes from a file descriptor. */
export const MAX_PASSWORD_BYTES = 4 * KIBIBYTE;
/** Layers per image: overlayfs refuses more than 500 lower directories, containerd images stay below 128. */
export const MAX_LAYERS = 512;
/** A repository name, as every registry bounds it (distribution spec, "name"). */
export const MAX_REPOSITORY_CHARACTERS = 255;
/** A whole reference: host, repository, tag and digest at their longest, rounded up. */
export const MAX_REFERENCE_CHARACTERS = 1024;
/** Depth of nested image indexes. */
export const MAX_INDEX_DEPTH = 4;
/** Entries in one image index. */
export const MAX_INDEX_ENTRIES = 256;
/** Manifests that index.json of an image layout lists: images and what refers to them. */
export const MAX_LAYOUT_ENTRIES = 4096;
/** Manifests that refer to one image: a signature and an SBOM for each release tool, not a flood. */
export const MAX_REFERRERS = 1024;
/** Pages of one list of referrers; real registries need one or two. */
export const MAX_REFERRER_PAGES = 64;
/** Tries to list a referrer by a tag that other clients change at the same time. */
export const MAX_REFERRERS_TAG_ATTEMPTS = 5;
/** How long after its own change a client looks whether another one overwrote the tag: longer than such a change takes. */
export const REFERRERS_TAG_SETTLE_MS = 200;
/**
 * Values in one JSON document: a layout of 4096 entries has half of it. A schema reports every wrong value, at half a
 * kibibyte each (measured: a list of 4 MiB of `{}` took 2.7 GiB and a minute).
 */
export const MAX_JSON_VALUES = 100_000;
/** Manifests and indexes of one whole image; nested indexes could name millions. */
export const MAX_GRAPH_MANIFESTS = 1024;
/**
 * Manifests, indexes and configs of one whole image, which are kept in memory and take several times that once parsed
 * (measured: 60 platforms of 6 MiB each took 850 MB). Those of real images have a few hundred kibibytes together.
 */
export const MAX_GRAPH_BYTES = 64 * MEBIBYTE;
/** Attestations attached to one image: an SBOM and a provenance for each platform, from a few tools. */
export const MAX_ATTACHED_ATTESTATIONS = 64;
/** Documents of one attached attestation that are decrypted with the image: anybody who can push could fill the disk. */
export const MAX_ATTACHED_DOCUMENT_BYTES = 64 * MEBIBYTE;
/** Manifests of one image, the root and its platforms, whose referrers are asked for before it is encrypted. */
export const MAX_REFERRER_LOOKUPS = 16;
/** Base images that one image may note: one per platform, and some have several platforms with one each. */
export const MAX_BASE_IMAGES = 16;
/** Blobs of one image moved at once: enough to hide round trips, few enough for a registry's rate limit. */
export const MAX_PARALLEL_BLOBS = 3;
/** How long a writer waits for others that change the same image layout; a change takes milliseconds. */
export const LAYOUT_LOCK_TIMEOUT_MS = 30 * SECOND_MS;
/** Half-written files of a crash are removed once no living writer can still own them. */
export const LAYOUT_LEFTOVER_AGE_MS = 24 * HOUR_MS;

/** Files in an image archive: a few for each layer; more are an attack on memory. */
export const MAX_ARCHIVE_MEMBERS = 16_384;
/** Header of one file in a tar with its extensions (long name, times); real ones have two kibibytes. */
export const MAX_TAR_HEADER_BYTES = 64 * KIBIBYTE;
/** A file name in an archive, as Linux bounds a path. */
export const MAX_ARCHIVE_NAME_CHARACTERS = 4096;
/** Links from one file of an archive to the next. */
export const MAX_ARCHIVE_LINKS = 8;
/** A compressed archive may unpack to this many times its size ... */
export const MAX_UNPACK_RATIO = 100;
/** ... or to this much, whatever its size: layers of zeros are small. */
export const MIN_UNPACK_BYTES = 1024 * MEBIBYTE;
/** Space that an archive unpacked to a temporary file leaves to everybody else. */
export const MIN_FREE_DISK_BYTES = 256 * MEBIBYTE;
/** How often, while a temporary file is written, the free space is looked at. */
export const DISK_CHECK_INTERVAL_BYTES = 16 * MEBIBYTE;

/** Tries of one registry request; with the delays below a registry may be away for some ten seconds. */
export const MAX_REGISTRY_ATTEMPTS = 6;
/** Delay before the first retry; it doubles each time, and a random part of it is taken. */
export const REGISTRY_RETRY_BASE_MS = 250;
export const REGISTRY_RETRY_MAX_MS = 8 * SECOND_MS;
/** A registry that asks to wait longer than this (Retry-After) is reported instead of waited for. */
export const MAX_RETRY_AFTER_MS = MINUTE_MS;
/**
 * A registry answers in milliseconds; storage behind it may be slow to commit a large blob. Also how long an upload may
 * make no progress.
 */
export const REGISTRY_ANSWER_TIMEOUT_MS = 2 * MINUTE_MS;
/** A download that gives no byte for this long is cut and resumed. */
export const REGISTRY_STALL_TIMEOUT_MS = MINUTE_MS;
/** A transfer slower than this, bytes per second, is as good as silent: some registries drip to hold clients. */
export const MIN_TRANSFER_RATE = 256;
/** Bytes of an upload written at once: whether the line moves is seen only in between. As much as Node buffers. */
export const MAX_UPLOAD_WRITE_BYTES = 64 * KIBIBYTE;
/** A connection that gained less than this before it was cut counts as one without a gain. */
export const MIN_TRANSFER_GAIN_BYTES = 16 * KIBIBYTE;
/** A blob that is refused as too large is sent in ever smaller pieces down to this; no proxy refuses less. */
export const MIN_UPLOAD_PIECE_BYTES = 256 * KIBIBYTE;
/** Unanswered requests to one host; blobs come in parallel anyway, and registries limit rates. */
export const MAX_REQUESTS_PER_HOST = 6;
/** Cuts of one blob transfer in a row, without a gain, before it fails. */
export const MAX_TRANSFER_CUTS = 4;
/** Redirects of one request: registry to storage to mirror; more is a loop. */
export const MAX_REDIRECTS = 5;
/** A WWW-Authenticate header; real ones have some 200 characters. */
export const MAX_CHALLENGE_CHARACTERS = 8 * KIBIBYTE;
/** A Link header; real ones have some 300 characters. */
export const MAX_LINK_CHARACTERS = 8 * KIBIBYTE;
/** Life of a token whose answer does not say (distribution spec, token authentication). */
export const DEFAULT_TOKEN_LIFETIME_MS = MINUTE_MS;
/** A token is renewed this long before it expires, so that it does not expire on its way. */
export const TOKEN_EXPIRY_SKEW_MS = 10 * SECOND_MS;
/** A credential helper may ask a person to unlock a key ring, but not for ever. */
export const CREDENTIAL_HELPER_TIMEOUT_MS = MINUTE_MS;
/** Docker's config.json; with many registries some 100 KiB. */
export const MAX_DOCKER_CONFIG_BYTES = MEBIBYTE;

/** A release statement: some 300 bytes a layer, so 50 platforms of 60 layers fit. */
export const MAX_STATEMENT_BYTES = MEBIBYTE;
/** The signed envelope around a statement: base64 adds a third, signatures a few hundred bytes each. */
export const MAX_STATEMENT_ENVELOPE_BYTES = 1.5 * MEBIBYTE;
/** Signatures on one statement: the key server's, the vendor's, and room for a change of keys. */
export const MAX_STATEMENT_SIGNATURES = 16;
/** Statements attached to one image that are looked at: anybody who can push can attach more. */
export const MAX_ATTACHED_STATEMENTS = 32;

/** Ciphertext that waits for a failed push to be repeated is removed after this. */
export const STAGED_PUSH_AGE_MS = 7 * 24 * HOUR_MS;
/** The head of a layer by which the agent knows it when containerd sends no payload. */
export const LAYER_HEAD_BYTES = 4096;
/** A pipe read never returns more than the pipe's 64 KiB buffer (measured: larger buffers only wait). */
export const PIPE_CHUNK_BYTES = 64 * KIBIBYTE;
/** Chunk of file-to-file work; smaller ones lose to thread wake-ups (measured). */
export const FILE_CHUNK_BYTES = MEBIBYTE;
/** From this size on a layer is worth a thread of its own and direct writes; below, they cost more than they gain (measured). */
export const LARGE_LAYER_BYTES = 4 * MEBIBYTE;
/** Random bytes after a layer's end marker that make its diff ID unique (chain IDs are shared between images). */
export const LAYER_SALT_BYTES = 512;
/** Window of a zstd layer, as a power of two: what zstd's own tools and containerd unpack without being asked to. */
export const MAX_ZSTD_WINDOW_LOG = 27;
/** Plaintext held back until MAC and digest are verified; a tar without its tail cannot be committed. */
export const HELD_BACK_BYTES = 64 * KIBIBYTE;

/** Keys of one layer, over all images of a node, that are tried: each may cost a question to the key server. */
export const MAX_KEYS_PER_LAYER = 64;

/** A message of the key provider protocol: an annotation as an array of numbers, four characters a byte, and keys. */
export const MAX_PROVIDER_MESSAGE_BYTES = MEBIBYTE;
/** The configuration of key providers: a few lines for each. */
export const MAX_PROVIDER_CONFIG_BYTES = MEBIBYTE;
/** The file of one image key: two ids, a contact line and a sealed key. */
export const MAX_IMAGE_KEY_FILE_BYTES = 64 * KIBIBYTE;
/** A key provider may ask a key service far away, or a person for a PIN; peers wait for ever. */
export const PROVIDER_TIMEOUT_MS = MINUTE_MS;
/** What a failed key provider has said is read this far ... */
export const MAX_PROVIDER_STDERR_BYTES = 64 * KIBIBYTE;
/** ... and this much of it is shown. */
export const MAX_PROVIDER_REASON_CHARACTERS = 2 * KIBIBYTE;

/** The state that a container runtime hands to its hooks: an id, paths and the container's annotations. */
export const MAX_HOOK_STATE_BYTES = MEBIBYTE;

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
/** Leases are renewed after this part of their life: an outage of the key server may last for the other two thirds ... */
export const DEFAULT_RENEW_AFTER_PERCENT = 33;
/** ... earlier ones would only load the server ... */
export const MIN_RENEW_AFTER_PERCENT = 10;
/** ... and later ones would leave no time to try again ... */
export const MAX_RENEW_AFTER_PERCENT = 90;
/** ... give or take this share of that part, or of the rest where that is less, so that nodes do not come all at once. */
export const LEASE_RENEW_JITTER = 0.1;
/** ... and a node reconnects when it has heard nothing for this long. */
export const WATCH_DEAD_AFTER_MS = 45 * SECOND_MS;
/** Without a stream a node asks for changes this often: as soon as a connected one would hear of them ... */
export const WATCH_POLL_EVERY_MS = 2 * SECOND_MS;
/** ... and less often, up to this, while the key server does not answer. */
export const WATCH_POLL_MAX_MS = 30 * SECOND_MS;
/** How long a start may wait for the key server; kubelet's own limit for a CRI call is 2 minutes. */
export const KEY_SERVER_CALL_TIMEOUT_MS = 5 * SECOND_MS;
/**
 * A layer of which no byte comes or goes for this long is given up, or its worker thread would be lost: containerd reads
 * it from its own store and writes it to memory, and waits for nobody.
 */
export const LAYER_STALL_TIMEOUT_MS = 2 * MINUTE_MS;
/** A stream processor says who it is at once, and containerd has its payload ready. */
export const PROCESSOR_HELLO_TIMEOUT_MS = 20 * SECOND_MS;
/** An answered processor exits at once; one that does not is stuck and is killed, or containerd would wait for it for ever. */
export const PROCESSOR_EXIT_TIMEOUT_MS = 20 * SECOND_MS;
/** Licenses of one node whose last change it remembers: a node has a few; a stream without end must not fill memory. */
export const MAX_REMEMBERED_LICENSES = 1000;
/** A node asks for the next certificate after this part of its life: a third is left for key servers that are away ... */
export const CERTIFICATE_RENEW_FRACTION = 2 / 3;
/** ... give or take this part, so that nodes that were set up together do not come all at once. */
export const CERTIFICATE_RENEW_JITTER = 0.1;
/** Leases renewed in one call. */
export const MAX_LEASES_PER_RENEWAL = 100;
/** How long a join token lets machines in unless it is told otherwise: set up this week, or make another. */
export const DEFAULT_JOIN_TOKEN_LIFE_MS = 7 * 24 * HOUR_MS;
/** A join token that lives longer is a license key by another name. */
export const MAX_JOIN_TOKEN_LIFE_MS = 366 * 24 * HOUR_MS;
/** A typed license key with any grouping; more is not a license key. */
export const MAX_LICENSE_KEY_TEXT = 256;
/** Nodes a license allows unless it says otherwise: a small cluster. */
export const DEFAULT_MAX_NODES = 3;
/** The shortest a license may last: a demonstration, or a test. */
export const MIN_LICENSE_DURATION_MS = SECOND_MS;
/** The longest that is not a typing mistake, a hundred years; longer is without an end. */
export const MAX_LICENSE_DURATION_MS = 36_500 * 24 * HOUR_MS;
/**
 * The last moment that a license may be said to begin or end at: of the last year with four digits, so that what is counted
 * from it, such as a term, is still a moment that a Date can hold.
 */
export const MAX_LICENSE_TIME_MS = Date.UTC(10_000, 0) - 1;
/** Grace after the end of a license (keyserver model 6.3); who gives more sells a longer license. */
export const MAX_EXPIRY_GRACE_MS = 90 * 24 * HOUR_MS;
/** Features that one license or release may name; a product is sold in a few. */
export const MAX_ENTITLEMENTS = 64;
/** Tags of one license; each is a row that lists are found by. */
export const MAX_TAGS = 32;
/** Metadata of one license: what joins it to the vendor's own books, not the books themselves ... */
export const MAX_METADATA_ENTRIES = 50;
export const MAX_METADATA_VALUE_CHARACTERS = 500;
/** ... all of it as JSON: a list has a thousand licenses in one answer. */
export const MAX_METADATA_BYTES = 4 * KIBIBYTE;
/** Seats of one kind that a license may allow; more is a typing mistake. */
export const MAX_SEATS_PER_LICENSE = 1_000_000;
/** Layer keys wrapped in one admin request: with the next bound they fit into its body. */
export const MAX_ELEMENTS_PER_REQUEST = 64;
/** One wrapped or sealed layer key in base64; ours have less than 2,000 characters. */
export const MAX_ELEMENT_CHARACTERS = 3072;
/** Meters of one license; whoever needs more counts what should be added up. */
export const MAX_METERS_PER_LICENSE = 100;
/** Used at once, or sold: more is a typing mistake. */
export const MAX_USAGE_AMOUNT = 1_000_000_000_000;
/** As far as a meter counts: whole numbers are exact up to 2^53. */
export const MAX_METER_TOTAL = Number.MAX_SAFE_INTEGER;
/** A cursor of a list: a digest and an id in base64 have less than 100 characters. */
export const MAX_CURSOR_CHARACTERS = 256;
/** Audit events in one answer. */
export const MAX_AUDIT_PAGE = 1000;

/** An image key that is destroyed takes its images with it, so there is a week to notice a mistake ... */
export const MIN_DESTRUCTION_DAYS = 7;
export const DEFAULT_DESTRUCTION_DAYS = MIN_DESTRUCTION_DAYS;
/** ... and a month at most, as other key management services have it. */
export const MAX_DESTRUCTION_DAYS = 30;

/** Life of an offline bundle that asks for none: a month, in which somebody comes by with the next. */
export const DEFAULT_OFFLINE_MS = 30 * 24 * HOUR_MS;
/** Shortest life of an offline bundle: it has to be carried to the node. */
export const MIN_OFFLINE_MS = HOUR_MS;
/** Longest life of an offline bundle, in which no revocation reaches a node without a line. */
export const MAX_OFFLINE_MS = 365 * 24 * HOUR_MS;
/** Nodes in one check-out: their requests fit in one admin request, and their bundles in one transaction. */
export const MAX_OFFLINE_REQUESTS = 64;
/** A node's request: its certificate request and the digests of some hundred images. */
export const MAX_OFFLINE_REQUEST_CHARACTERS = 32 * KIBIBYTE;
/** Images that a request can name; who wants more asks for all. */
export const MAX_OFFLINE_IMAGES = 128;
/** Leases of one check-out: other writers wait until they are written, less than a second. */
export const MAX_OFFLINE_LEASES = 2000;
/** Starts that an offline bundle can be limited to; who wants more sets no limit. */
export const MAX_OFFLINE_STARTS = 1_000_000;
/** A file of bundles: two thousand leases of about a kilobyte, and the statements of their releases. */
export const MAX_OFFLINE_FILE_BYTES = 64 * MEBIBYTE;
/** Shares of one key: a group of people that can still be called together. */
export const MAX_KEY_SHARES = 32;
/** A share as a person types it: 88 characters, and room for spaces. */
export const MAX_KEY_SHARE_TEXT = 256;
/** Longest use of a lease beyond its end where the key server cannot be reached: as long as the longest lease. */
export const MAX_CONNECTIVITY_GRACE_MS = MAX_LEASE_DURATION_MS;
