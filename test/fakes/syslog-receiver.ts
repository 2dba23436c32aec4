/** A syslog receiver that takes RFC 6587 octet counting and RFC 5424 by the letter, and nothing else. */
import { once } from 'node:events';
import { type Server, type Socket, createServer } from 'node:net';

export interface SyslogMessage {
  readonly priority: number;
  readonly messageId: string;
  readonly data: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly text: string;
}

const HEADER =
  /^<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z) ([\x21-\x7e]{1,255}) ([\x21-\x7e]{1,48}) ([\x21-\x7e]{1,128}) ([\x21-\x7e]{1,32}) /;
const ELEMENT =
  /^\[([\x21\x23-\x3c\x3e-\x5c\x5e-\x7e]{1,32})((?: [\x21\x23-\x3c\x3e-\x5c\x5e-\x7e]{1,32}="(?:[^"\\\]]|\\["\\\]])*")*)\]/;
const PARAMETER = / ([^=]+)="((?:[^"\\\]]|\\["\\\]])*)"/g;

/** Reads whole frames. */
export function readFrames(bytes: Buffer): SyslogMessage[] {
  const messages: SyslogMessage[] = [];
  for (let rest = bytes; rest.length > 0;) {
    const space = rest.indexOf(0x20);
    const length = rest.subarray(0, space).toString();
    if (!/^[1-9]\d*$/.test(length) || rest.length < space + 1 + Number(length))
      throw new Error('not a frame');
    const end = space + 1 + Number(length);
    messages.push(
      readMessage(new TextDecoder('utf-8', { fatal: true }).decode(rest.subarray(space + 1, end))),
    );
    rest = rest.subarray(end);
  }
  return messages;
}

function readMessage(message: string): SyslogMessage {
  const header = HEADER.exec(message);
  if (header === null) throw new Error(`no RFC 5424 header: ${message.slice(0, 100)}`);
  let rest = message.slice(header[0].length);
  const data: Record<string, Record<string, string>> = {};
  for (let element = ELEMENT.exec(rest); element !== null; element = ELEMENT.exec(rest)) {
    const [whole, id = '', parameters = ''] = element;
    data[id] = Object.fromEntries(
      [...parameters.matchAll(PARAMETER)].map(([, name = '', value = '']) => [
        name,
        value.replaceAll(/\\(["\\\]])/g, '$1'),
      ]),
    );
    rest = rest.slice(whole.length);
  }
  if (!rest.startsWith(' ')) throw new Error(`no RFC 5424 structured data: ${rest.slice(0, 100)}`);
  return { priority: Number(header[1]), messageId: header[6] ?? '', data, text: rest.slice(1) };
}

export interface SyslogReceiver {
  readonly port: number;
  /** In the order of their arrival. */
  readonly messages: SyslogMessage[];
  /** Why something was no message. */
  readonly faults: unknown[];
  /** While true, connections are taken and nothing is read from them. */
  isStuck: boolean;
  close(): Promise<void>;
}

/** @param port 0 = a free one */
export async function startSyslogReceiver(port = 0): Promise<SyslogReceiver> {
  const open = new Set<Socket>();
  const server: Server = createServer({ pauseOnConnect: true }, (socket) => {
    open.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => open.delete(socket));
    if (receiver.isStuck) return;
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('end', () => {
      try {
        receiver.messages.push(...readFrames(Buffer.concat(chunks)));
      } catch (error) {
        receiver.faults.push(error);
      }
    });
    socket.resume();
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const receiver: SyslogReceiver = {
    port: address === null || typeof address === 'string' ? 0 : address.port,
    messages: [],
    faults: [],
    isStuck: false,
    close: async () => {
      for (const socket of open) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
  return receiver;
}
