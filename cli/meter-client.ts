/** Meters of licenses in the admin API. */
import {
  type Meter,
  type MeterInput,
  type ReportedUsage,
  type UsageFilter,
  type UsageReport,
  type UsageReportInput,
  meterSchema,
  reportedUsageSchema,
  usageReportSchema,
} from '#src/wire/admin/meter.ts';
import { AdminConnection } from './admin-connection.ts';

export class MeterClient extends AdminConnection {
  meters(licenseId: string): Promise<Meter[]> {
    return this.list(`licenses/${encodeURIComponent(licenseId)}/meters`, meterSchema);
  }

  /** Makes a meter, or changes what was sold. */
  setMeter(licenseId: string, name: string, input: MeterInput): Promise<Meter> {
    const path = `licenses/${encodeURIComponent(licenseId)}/meters/${encodeURIComponent(name)}`;
    return this.change('PUT', path, input, meterSchema);
  }

  /** The same report again counts once. */
  reportUsage(licenseId: string, meter: string, input: UsageReportInput): Promise<ReportedUsage> {
    const path = `licenses/${encodeURIComponent(licenseId)}/meters/${encodeURIComponent(meter)}:report`;
    return this.post(path, input, reportedUsageSchema);
  }

  usageReports(licenseId: string, filter: UsageFilter = {}): Promise<UsageReport[]> {
    return this.list(`licenses/${encodeURIComponent(licenseId)}/usage-reports`, usageReportSchema, filter);
  }
}
