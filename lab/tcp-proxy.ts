/** A line between two parts of the lab that a test can make slow, silent, or full of nonsense. */
import { randomBytes } from 'node:crypto';
import { type AddressInfo, type Server, type Socket, createConnection, createServer } from 'node:net';
import { Transform } from 'node:stream';

export type LineMood =
  | 'passing'
  /** Takes connections and bytes, and gives none. */
  | 'silent'
  /** Passes on what is asked and loses what is answered. */
  | 'deaf'
  /** Answers whatever comes with random bytes. */
  | 'garbage'
  /** Answers as a web server of another age. */
  | 'http1'
  /** Hangs up at once. */
  | 'closing';

const HTTP1_ANSWER = 'HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n';

export class TcpProxy {
  /** `host:port` to connect to instead. */
  readonly address: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #targets = new WeakSet<Socket>();
  #mood: LineMood = 'passing';
  #cut: { readonly text: string; readonly moment: 'before' | 'answered' } | null = null;
  #hold: { readonly text: string; timesLeft: number; readonly onHeld: () => void } | null = null;
  /** Connections so far. */
  connections = 0;

  private constructor(server: Server) {
    this.#server = server;
    this.address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async start(target: string): Promise<TcpProxy> {
    const [host = '', port = ''] = target.split(':');
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const proxy = new TcpProxy(server);
    server.on('connection', (socket) => {
      proxy.#serve(socket, host, Number(port));
    });
    return proxy;
  }

  /** From now on; lines that are open are cut, except that they may fall silent or deaf. */
  change(mood: LineMood): void {
    this.#mood = mood;
    for (const socket of this.#sockets) {
      if (mood === 'silent') socket.unpipe();
      else if (mood !== 'deaf') socket.destroy();
      else if (this.#targets.has(socket)) socket.unpipe().resume();
    }
  }

  /**
   * Cuts the line on which a text is sent next.
   * @param moment before it is passed on, or once the other end has answered it
   */
  cutAt(text: string, moment: 'before' | 'answered'): void {
    this.#cut = { text, moment };
  }

  /** Holds the line on which a text is sent for the n-th time from now on; resolves when it is held. */
  holdAt(text: string, times: number): Promise<void> {
    return new Promise((onHeld) => {
      this.#hold = { text, timesLeft: times, onHeld };
    });
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #serve(socket: Socket, host: string, port: number): void {
    this.connections += 1;
    this.#keep(socket);
    if (this.#mood === 'closing') socket.destroy();
    if (this.#mood === 'garbage') socket.on('data', () => socket.write(randomBytes(1000)));
    if (this.#mood === 'http1') socket.once('data', () => socket.end(HTTP1_ANSWER));
    if (this.#mood === 'silent') socket.resume();
    if (this.#mood !== 'passing' && this.#mood !== 'deaf') return;
    const target = createConnection(port, host);
    this.#keep(target);
    this.#targets.add(target);
    socket.pipe(this.#watched(socket, target)).pipe(target);
    if (this.#mood === 'deaf') target.resume();
    else target.pipe(socket);
  }

  /** What passes from one to the other. */
  #watched(socket: Socket, target: Socket): Transform {
    const end = () => {
      socket.destroy();
      target.destroy();
    };
    return new Transform({
      transform: (chunk: Buffer, _encoding, pass) => {
        if (this.#isHeld(chunk)) return;
        const cut = this.#cut;
        if (cut === null || !chunk.includes(cut.text)) {
          pass(null, chunk);
          return;
        }
        this.#cut = null;
        if (cut.moment === 'before') {
          end();
          return;
        }
        target.unpipe(socket);
        target.once('data', end).resume();
        pass(null, chunk);
      },
    });
  }

  #isHeld(chunk: Buffer): boolean {
    const hold = this.#hold;
    if (hold === null || !chunk.includes(hold.text)) return false;
    hold.timesLeft -= 1;
    if (hold.timesLeft > 0) return false;
    this.#hold = null;
    hold.onHeld();
    return true;
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => this.#sockets.delete(socket));
  }
}
