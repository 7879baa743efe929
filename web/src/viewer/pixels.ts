/** Pixels of a frame: out of a preview, or as they were sent, by WADO-RS. */
import type { Decoded } from './decode';
import { type Facts, frameUrl } from './facts';
import { type Frame, previewUrl } from './study';

export interface Pixels {
  rows: number;
  columns: number;
  /** Grey: values after the modality LUT, or of the picture where nothing is known; else RGBA. */
  values: Int16Array | Float32Array | Uint8ClampedArray;
  colour: boolean;
  invert: boolean;
  /** Through what they are shown unless somebody chooses: centre and width. */
  window: [number, number];
  /** Values are on the modality's scale, so that a window in numbers means something. */
  scaled: boolean;
  /** They are what was measured, and may be reckoned with. */
  exact: boolean;
}

const JPEG = '1.2.840.10008.1.2.4.50';
const JPEG_LS = '1.2.840.10008.1.2.4.80';
const EXPLICIT = '1.2.840.10008.1.2.1';
const DISPLAY: [number, number] = [127.5, 256];

// -- the preview

/** `window`: the server's name of the window that it was made through, and its numbers. */
export async function previewOf(
  frame: Frame,
  facts: Facts | undefined,
  window?: { name: string; range: [number, number] },
): Promise<Pixels> {
  const answer = await fetch(previewUrl(frame, window?.name), { headers: { 'Lz-Quiet': '1' } });
  if (!answer.ok) throw new Error(`preview: HTTP ${answer.status}`);
  const bitmap = await createImageBitmap(await answer.blob());
  const rows = facts?.rows || frame.picture.rows || bitmap.height;
  const columns = facts?.columns || frame.picture.columns || bitmap.width;
  const canvas = new OffscreenCanvas(columns, rows);
  const context = canvas.getContext('2d', { willReadFrequently: true })!;
  context.drawImage(bitmap, 0, 0, columns, rows);
  bitmap.close();
  const { data } = context.getImageData(0, 0, columns, rows);
  if (isColour(data)) {
    return { rows, columns, values: data, colour: true, invert: false, window: DISPLAY, scaled: false, exact: false };
  }
  const through = window?.range ?? facts?.window;
  if (!through || facts?.photometric === 'MONOCHROME1') {
    return { rows, columns, values: grey(data, 1, 0), colour: false, invert: false, window: DISPLAY, scaled: false, exact: false };
  }
  // What the eight bits were made from, as far as they still tell: PS3.3, C.11.2.1.2.
  const [centre, width] = through;
  const values = grey(data, (width - 1) / 255, centre - 0.5 - (width - 1) / 2);
  return { rows, columns, values, colour: false, invert: false, window: through, scaled: true, exact: false };
}

function isColour(data: Uint8ClampedArray): boolean {
  for (let at = 0; at < data.length; at += 4) {
    if (Math.abs(data[at]! - data[at + 1]!) + Math.abs(data[at]! - data[at + 2]!) > 12) return true;
  }
  return false;
}

function grey(data: Uint8ClampedArray, slope: number, intercept: number): Int16Array {
  const values = new Int16Array(data.length / 4);
  for (let at = 0; at < values.length; at++) values[at] = Math.round(data[at * 4]! * slope + intercept);
  return values;
}

// -- as it was sent

const ACCEPT = [
  `multipart/related; type="image/jls"; transfer-syntax=${JPEG_LS}`,
  `multipart/related; type="application/octet-stream"; transfer-syntax=${EXPLICIT}; q=0.5`,
].join(', ');
const ACCEPT_JPEG = `multipart/related; type="image/jpeg"; transfer-syntax=${JPEG}`;

/** An image that came as baseline JPEG is taken as that; any other as JPEG-LS, without loss. */
export async function pixelsOf(frame: Frame, facts: Facts): Promise<Pixels> {
  const asJpeg = frame.picture.syntax === JPEG;
  const answer = await fetch(frameUrl(frame), {
    headers: { Accept: asJpeg ? ACCEPT_JPEG : ACCEPT, 'Lz-Quiet': '1' },
  });
  if (!answer.ok) throw new Error(`frame: HTTP ${answer.status}`);
  const type = answer.headers.get('Content-Type') ?? '';
  const part = firstPart(type, new Uint8Array(await answer.arrayBuffer()));
  if (part.type.startsWith('image/jpeg')) return await fromJpeg(part.body, facts);
  const isRaw = part.type.startsWith('application/octet-stream') && !part.type.includes(JPEG_LS);
  return shaped(isRaw ? asItLies(part.body, facts) : await decoded(part.body), facts);
}

/** The first body of a multipart answer, and its Content-Type. */
export function firstPart(type: string, all: Uint8Array<ArrayBuffer>): { type: string; body: Uint8Array<ArrayBuffer> } {
  const boundary = /boundary="?([^";]+)"?/i.exec(type)?.[1];
  if (!boundary) return { type, body: all };
  const begin = find(all, '\r\n\r\n', 0);
  const end = find(all, `\r\n--${boundary}`, begin + 4);
  if (begin < 0 || end < 0) throw new Error('frame: not a multipart answer');
  const head = new TextDecoder('latin1').decode(all.subarray(0, begin));
  const said = /^content-type:\s*(.+)$/im.exec(head)?.[1]?.trim() ?? '';
  return { type: said, body: all.slice(begin + 4, end) };
}

function find(all: Uint8Array, text: string, from: number): number {
  const wanted = new TextEncoder().encode(text);
  for (let at = all.indexOf(wanted[0]!, from); at >= 0; at = all.indexOf(wanted[0]!, at + 1)) {
    if (wanted.every((byte, index) => all[at + index] === byte)) return at;
  }
  return -1;
}

async function fromJpeg(body: Uint8Array<ArrayBuffer>, facts: Facts): Promise<Pixels> {
  const bitmap = await createImageBitmap(new Blob([body], { type: 'image/jpeg' }));
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext('2d', { willReadFrequently: true })!;
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const found = { rows: bitmap.height, columns: bitmap.width };
  bitmap.close();
  if (facts.samples > 1) {
    return { ...found, values: data, colour: true, invert: false, window: DISPLAY, scaled: false, exact: true };
  }
  return greyOf(grey(data, 1, 0), found.rows, found.columns, facts);
}

function asItLies(body: Uint8Array<ArrayBuffer>, facts: Facts): Decoded {
  return {
    width: facts.columns,
    height: facts.rows,
    components: facts.samples,
    bits: facts.bits,
    planar: facts.planar,
    bytes: body,
  };
}

function shaped(found: Decoded, facts: Facts): Pixels {
  const { width, height, components, bits, bytes } = found;
  const needed = width * height * components * (bits > 8 ? 2 : 1);
  if (bytes.length < needed) throw new Error('frame: fewer pixels than it should have');
  if (components === 3) return colourOf(found, facts);
  if (components !== 1 || facts.photometric === 'PALETTE COLOR') throw new Error('frame: not shown here');
  if (bits <= 8) {
    const stored = facts.signed ? new Int8Array(bytes.buffer, 0, needed) : bytes.subarray(0, needed);
    return greyOf(stored, height, width, facts);
  }
  const stored = facts.signed
    ? new Int16Array(bytes.buffer, 0, needed / 2)
    : new Uint16Array(bytes.buffer, 0, needed / 2);
  return greyOf(stored, height, width, facts);
}

type Stored = Int8Array | Uint8Array | Int16Array | Uint16Array;

function greyOf(stored: Stored, rows: number, columns: number, facts: Facts): Pixels {
  const { slope, intercept } = facts;
  const whole = Number.isInteger(slope) && Number.isInteger(intercept);
  let [low, high] = [Infinity, -Infinity];
  for (const value of stored) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const ends = [low * slope + intercept, high * slope + intercept];
  const small = whole && Math.min(...ends) >= -32768 && Math.max(...ends) <= 32767;
  const values = small ? new Int16Array(stored.length) : new Float32Array(stored.length);
  for (let at = 0; at < stored.length; at++) values[at] = stored[at]! * slope + intercept;
  return {
    rows,
    columns,
    values,
    colour: false,
    invert: facts.photometric === 'MONOCHROME1',
    window: facts.window ?? spread(values),
    scaled: true,
    exact: true,
  };
}

/** As the preview is made where the modality chose nothing: all but half a per cent at each end. */
function spread(values: Int16Array | Float32Array): [number, number] {
  const step = Math.max(1, Math.floor(values.length / 20_000));
  const some = values.filter((_, at) => at % step === 0).sort();
  const low = some[Math.floor(some.length * 0.005)]!;
  const high = some[Math.floor(some.length * 0.995)]!;
  return [(low + high) / 2, Math.max(high - low, 1)];
}

function colourOf({ width, height, planar, bytes, bits }: Decoded, facts: Facts): Pixels {
  if (bits > 8) throw new Error('frame: not shown here');
  const count = width * height;
  const [stride, apart] = planar ? [1, count] : [3, 1];
  const values = new Uint8ClampedArray(count * 4);
  const full = facts.photometric.startsWith('YBR_FULL');
  for (let at = 0; at < count; at++) {
    const from = at * stride;
    const [a, b, c] = [bytes[from]!, bytes[from + apart]!, bytes[from + 2 * apart]!];
    values[at * 4] = full ? a + 1.402 * (c - 128) : a;
    values[at * 4 + 1] = full ? a - 0.344136 * (b - 128) - 0.714136 * (c - 128) : b;
    values[at * 4 + 2] = full ? a + 1.772 * (b - 128) : c;
    values[at * 4 + 3] = 255;
  }
  return { rows: height, columns: width, values, colour: true, invert: false, window: DISPLAY, scaled: false, exact: true };
}

// -- the decoder

let worker: Worker | undefined;
let last = 0;
const waiting = new Map<number, [(decoded: Decoded) => void, (error: Error) => void]>();

function decoded(encoded: Uint8Array<ArrayBuffer>): Promise<Decoded> {
  if (!worker) {
    worker = new Worker(new URL('./decode.ts', import.meta.url), { type: 'module' });
    worker.onmessage = ({ data }: MessageEvent<{ id: number; decoded?: Decoded; error?: string }>) => {
      const [done, failed] = waiting.get(data.id) ?? [];
      waiting.delete(data.id);
      if (data.decoded) done?.(data.decoded);
      else failed?.(new Error(data.error));
    };
    worker.onerror = (event) => {
      for (const [, failed] of waiting.values()) failed(new Error(event.message));
      waiting.clear();
    };
  }
  const id = ++last;
  return new Promise((done, failed) => {
    waiting.set(id, [done, failed]);
    worker!.postMessage({ id, encoded }, [encoded.buffer]);
  });
}
