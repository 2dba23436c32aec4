/** The real key grantor of a node whose licenses and releases a test scripts. */
import { ImageGuard } from '../../shim/agent/image-guard.ts';
import type { ExtractionLedger } from '../../shim/agent/extraction-ledger.ts';
import { KeyGrantor } from '../../shim/agent/key-grant.ts';
import { LayerIndex } from '../../shim/agent/layer-index.ts';
import { LeaseKeeper } from '../../shim/agent/lease-keeper.ts';
import type { FakeContentStore } from './content-store.ts';
import type { LeaseIssuer } from './lease-issuer.ts';

export function keyGrantor(
  ledger: ExtractionLedger,
  store: FakeContentStore,
  issuer: LeaseIssuer,
): KeyGrantor {
  const leases = new LeaseKeeper(issuer.clock, { onEnded: () => undefined });
  leases.setAuthority(issuer.authority());
  const index = new LayerIndex(store.connection);
  const guard = new ImageGuard(leases, index, { os: 'linux', architecture: 'amd64' });
  return new KeyGrantor(ledger, index, leases, guard);
}
