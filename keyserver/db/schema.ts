/**
 * The tables, in the subset that SQLite and PostgreSQL share: text, integer and blob columns, times as epoch
 * milliseconds, JSON as text. Everything secret in here is wrapped by custody or is a one-way digest.
 */
import type { ApiTokenTable } from './tables/api-token.ts';
import type { AuditEventTable, AuditExportTable, AuditKeyTable, AuditTileTable } from './tables/audit.ts';
import type { ImageKeyTable, ProductTable, ReleaseImageTable, ReleaseTable } from './tables/catalog.ts';
import type { IdempotentAnswerTable } from './tables/idempotent-answer.ts';
import type { LeaseTable, OfflineBundleTable } from './tables/lease.ts';
import type {
  CustomerTable,
  JoinTokenTable,
  LicenseNodeTable,
  LicenseTable,
  LicenseTagTable,
} from './tables/license.ts';
import type { MeterTable, UsageReportTable } from './tables/meter.ts';
import type { NodeSessionTable, NodeTable, PlaintextReportTable } from './tables/node.ts';
import type { PolicyTable } from './tables/policy.ts';
import type { OrganizationTable } from './tables/organization.ts';
import type { RootKeySlotTable } from './tables/root-key-slot.ts';
import type { WebhookAttemptTable, WebhookEndpointTable } from './tables/webhook.ts';
import type { UsedChallengeTable } from './tables/used-challenge.ts';

export interface Database {
  organization: OrganizationTable;
  root_key_slot: RootKeySlotTable;
  product: ProductTable;
  release: ReleaseTable;
  release_image: ReleaseImageTable;
  image_key: ImageKeyTable;
  customer: CustomerTable;
  policy: PolicyTable;
  license: LicenseTable;
  license_node: LicenseNodeTable;
  license_tag: LicenseTagTable;
  node: NodeTable;
  node_session: NodeSessionTable;
  join_token: JoinTokenTable;
  meter: MeterTable;
  usage_report: UsageReportTable;
  lease: LeaseTable;
  offline_bundle: OfflineBundleTable;
  plaintext_report: PlaintextReportTable;
  audit_event: AuditEventTable;
  audit_key: AuditKeyTable;
  audit_tile: AuditTileTable;
  audit_export: AuditExportTable;
  webhook_endpoint: WebhookEndpointTable;
  webhook_attempt: WebhookAttemptTable;
  api_token: ApiTokenTable;
  idempotent_answer: IdempotentAnswerTable;
  used_challenge: UsedChallengeTable;
}
