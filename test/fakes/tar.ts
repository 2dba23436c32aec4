/** Tars made member by member, also such as no honest program writes. */
import { pack, type Header } from 'tar-stream';
import { bytesOf } from './image.ts';

export interface FakeMember {
  readonly name: string;
  readonly content?: Uint8Array | string;
  readonly type?: Header['type'];
  readonly linkname?: string;
}

/** A tar of the members, in their order. */
export async function fakeTar(members: readonly FakeMember[]): Promise<Buffer> {
  const archive = pack();
  for (const { name, content = '', type = 'file', linkname } of members) {
    archive.entry({ name, type, ...(linkname === undefined ? {} : { linkname }) }, Buffer.from(content));
  }
  archive.finalize();
  return bytesOf(archive as AsyncIterable<Uint8Array>);
}

/** A 512-byte tar header with fields of any value and the right checksum. */
export function rawTarHeader(fields: {
  readonly name?: string;
  readonly size?: string;
  readonly typeflag?: string;
  readonly linkname?: string;
}): Buffer {
  const header = Buffer.alloc(512);
  header.write(fields.name ?? 'file', 0);
  header.write('0000644\0', 100);
  header.write('0000000\0', 108);
  header.write('0000000\0', 116);
  header.write(fields.size ?? '00000000000\0', 124, 'latin1');
  header.write('00000000000\0', 136);
  header.write('        ', 148);
  header.write(fields.typeflag ?? '0', 156);
  header.write(fields.linkname ?? '', 157);
  header.write('ustar\x0000', 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return header;
}
