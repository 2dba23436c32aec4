/** The Link header (RFC 8288), of which registries use the next page of a list. */
import { LatchkeyError } from '#src/base/errors.ts';
import { MAX_LINK_CHARACTERS } from '#src/base/limits.ts';

/** One link: its target, then its parameters, in which quoted text may hold commas. */
const LINK =
  /[ \t,]*<([^>]*)>((?:[ \t]*;[ \t]*[^\s;,="]+(?:[ \t]*=[ \t]*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]*))?)*)/gsy;
const NEXT = /;[ \t]*rel[ \t]*=[ \t]*(?:"(?:[^"]*[ \t])?next(?:[ \t][^"]*)?"|next(?![^\s;,]))/i;

/**
 * The next page of a list; undefined on its last.
 * @param base where the page came from; the next one must be there too, as our token goes with the request
 * @throws LatchkeyError NET_REGISTRY for a page on another origin, or an unreadable target
 */
export function nextPage(headers: Headers, base: URL): URL | undefined {
  const header = headers.get('link') ?? '';
  if (header.length > MAX_LINK_CHARACTERS) throw refused(base, 'an oversized Link header');
  for (const [, target = '', parameters = ''] of header.matchAll(LINK)) {
    if (!NEXT.test(parameters)) continue;
    const url = URL.parse(target, base.href);
    if (url === null) throw refused(base, 'an unreadable Link header');
    if (url.origin !== base.origin) throw refused(base, `a Link to another host, ${url.host}`);
    url.username = '';
    url.password = '';
    return url;
  }
  return undefined;
}

function refused(base: URL, what: string): LatchkeyError {
  return new LatchkeyError('NET_REGISTRY', `${base.host} sent ${what}`);
}
