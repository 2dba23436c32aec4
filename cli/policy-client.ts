/** Policies of the admin API as functions. */
import { type Policy, type PolicyRequest, type PolicyUpdate, policySchema } from '#src/wire/admin/policy.ts';
import { AdminConnection } from './admin-connection.ts';

export class PolicyClient extends AdminConnection {
  create(input: PolicyRequest): Promise<Policy> {
    return this.post('policies', input, policySchema);
  }

  show(code: string): Promise<Policy> {
    return this.get(`policies/${encodeURIComponent(code)}`, policySchema);
  }

  all(): Promise<Policy[]> {
    return this.list('policies', policySchema);
  }

  update(code: string, update: PolicyUpdate): Promise<Policy> {
    return this.change('PATCH', `policies/${encodeURIComponent(code)}`, update, policySchema);
  }
}
