/** What the log says of failed calls: denials are normal, defects need the stack. */
import type { Logger } from 'pino';
import { toLatchkeyError } from '#src/base/errors.ts';
import { currentRequestId } from '../current-request.ts';

export type CallLog = (error: unknown, call: { getPath(): string; getPeer(): string }) => void;

export function createCallLog(logger: Logger): CallLog {
  return (error, call) => {
    const { code, message, cause, licenseId } = toLatchkeyError(error);
    const requestId = currentRequestId();
    const fields = { requestId, path: call.getPath(), peer: call.getPeer(), code, licenseId };
    if (code === 'BUG_UNEXPECTED') logger.error({ ...fields, err: cause }, message);
    else logger.info(fields, message);
  };
}
