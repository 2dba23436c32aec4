/** For the mode `runtime-class`: what Kubernetes is told of the runtime that containerd has. */
import { LatchkeyError } from '#src/base/errors.ts';

/** CRI reads it from the pod; the runtime that the class names is not enough when an image is pulled. */
const HANDLER_ANNOTATION = 'io.containerd.cri.runtime-handler';

/** @throws LatchkeyError USAGE_INVALID for a name that Kubernetes does not take (a DNS label) */
export function checkRuntimeClass(name: string): string {
  if (/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(name)) return name;
  throw new LatchkeyError('USAGE_INVALID', `${JSON.stringify(name)} cannot name a runtime class`, {
    hint: 'use lower case letters, digits and hyphens, for example latchkey',
  });
}

/** The manifest for `kubectl apply`. */
export function runtimeClassManifest(name: string): string {
  return `# Apply it once per cluster: kubectl apply -f FILE
# A pod whose image is encrypted then says:
#   metadata.annotations: { ${HANDLER_ANNOTATION}: ${name} }
#   spec.runtimeClassName: ${name}
# Both are needed: the annotation makes containerd unpack the image into the right snapshotter.
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata:
  name: ${name}
handler: ${name}
`;
}
