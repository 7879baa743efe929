/** What a viewer needs of an image's attributes, out of DICOM JSON (PS3.18, F). */
import type { Frame, Series, Study } from './study';

type Element = { vr: string; Value?: unknown[] };
type Header = Record<string, Element>;

export interface Region {
  /** In pixels, both ends included. */
  x0: number;
  y0: number;
  x1: number;
  y1: number;
  /** Millimetres a pixel. */
  dx: number;
  dy: number;
}

export interface Facts {
  rows: number;
  columns: number;
  samples: number;
  bits: number;
  signed: boolean;
  photometric: string;
  planar: boolean;
  slope: number;
  intercept: number;
  /** Values are Hounsfield units. */
  hounsfield: boolean;
  /** Centre and width that the modality chose. */
  window?: [number, number];
  /** Millimetres from row to row and from column to column; none where nobody said so. */
  spacing?: [number, number];
  /** Calibrated parts of an ultrasound picture. */
  regions: Region[];
  /** It was compressed with loss before it came (PS3.3, C.7.6.1.1.5). */
  lossy: boolean;
  /** Directions of a row and of a column in the patient, and where the first pixel is. */
  orientation?: number[];
  position?: number[];
  rate?: number;
}

const one = (header: Header, tag: string) => header[tag]?.Value?.[0];
const text = (header: Header, tag: string) => String(one(header, tag) ?? '').trim();
const CENTIMETRES = 3;

function number(header: Header, tag: string): number | undefined {
  const found = one(header, tag);
  const value = Number(found);
  return found === undefined || found === null || found === '' || !Number.isFinite(value)
    ? undefined
    : value;
}

function numbers(header: Header, tag: string, count: number): number[] | undefined {
  const found = (header[tag]?.Value ?? []).map(Number);
  return found.length === count && found.every(Number.isFinite) ? found : undefined;
}

/** In functional groups (enhanced images) the shared ones stand for all frames. */
function shared(header: Header, group: string, tag: string): Header {
  if (header[tag]) return header;
  const groups = one(header, '52009229') as Header | undefined;
  const found = groups?.[group]?.Value?.[0] as Header | undefined;
  return found ?? header;
}

export function factsOf(header: Header): Facts {
  const measures = shared(header, '00289110', '00280030');
  const values = shared(header, '00289145', '00281053');
  const voi = shared(header, '00289132', '00281050');
  const plane = shared(header, '00209116', '00200037');
  const modality = text(header, '00080060');
  const spacing = numbers(measures, '00280030', 2);
  const centre = number(voi, '00281050');
  const width = number(voi, '00281051');
  const unit = text(values, '00281054').toUpperCase() || 'HU';
  const intercept = number(values, '00281052');
  const frameTime = number(header, '00181063');
  return {
    rows: number(header, '00280010') ?? 0,
    columns: number(header, '00280011') ?? 0,
    samples: number(header, '00280002') ?? 1,
    bits: number(header, '00280100') ?? 16,
    signed: number(header, '00280103') === 1,
    photometric: text(header, '00280004'),
    planar: number(header, '00280006') === 1,
    slope: number(values, '00281053') || 1,
    intercept: intercept ?? 0,
    hounsfield: modality === 'CT' && unit === 'HU' && intercept !== undefined,
    ...(centre !== undefined && width !== undefined && width >= 1 ? { window: [centre, width] } : {}),
    ...(spacing && spacing.every((each) => each > 0) ? { spacing: spacing as [number, number] } : {}),
    regions: regionsOf(header),
    lossy: text(header, '00282110') === '01',
    ...pick('orientation', numbers(plane, '00200037', 6)),
    ...pick('position', numbers(header, '00200032', 3)),
    ...pick('rate', number(header, '00082144') ?? (frameTime ? 1000 / frameTime : undefined)),
  };
}

function pick<K extends string, V>(key: K, value: V | undefined): Partial<Record<K, V>> {
  return value === undefined ? {} : ({ [key]: value } as Record<K, V>);
}

/** Only regions of tissue whose both axes are lengths: PS3.3, C.8.5.5. */
function regionsOf(header: Header): Region[] {
  const found: Region[] = [];
  for (const region of (header['00186011']?.Value ?? []) as Header[]) {
    const [x0, y0] = [number(region, '00186018'), number(region, '0018601A')];
    const [x1, y1] = [number(region, '0018601C'), number(region, '0018601E')];
    const units = [number(region, '00186024'), number(region, '00186026')];
    const [dx, dy] = [number(region, '0018602C'), number(region, '0018602E')];
    if (units[0] !== CENTIMETRES || units[1] !== CENTIMETRES || !dx || !dy) continue;
    if (x0 === undefined || y0 === undefined || x1 === undefined || y1 === undefined) continue;
    found.push({ x0, y0, x1, y1, dx: Math.abs(dx) * 10, dy: Math.abs(dy) * 10 });
  }
  return found;
}

/** Millimetres from row to row and column to column where all these points lie; none if unknown. */
export function spacingAt(facts: Facts | undefined, points: Point[]): [number, number] | undefined {
  if (facts?.spacing) return facts.spacing;
  const around = facts?.regions.find((region) =>
    points.every(([x, y]) => x >= region.x0 && x <= region.x1 && y >= region.y0 && y <= region.y1),
  );
  return around && [around.dy, around.dx];
}

export type Point = [number, number];

const asked = new Map<string, Promise<Map<string, Facts>>>();

/** The attributes of all images of a series, by SOP Instance UID; asked for once, or `anew`. */
export function factsIn(study: Study, series: Series, anew = false): Promise<Map<string, Facts>> {
  const url = `${study.dicomweb}/studies/${study.uid}/series/${series.uid}/metadata`;
  const known = asked.get(url);
  if (known && !anew) return known;
  const asking = fetchFacts(url);
  asked.set(url, asking);
  asking.catch(() => asked.delete(url));
  return asking;
}

async function fetchFacts(url: string): Promise<Map<string, Facts>> {
  const answer = await fetch(url, { headers: { Accept: 'application/dicom+json', 'Lz-Quiet': '1' } });
  if (!answer.ok) throw new Error(`metadata: HTTP ${answer.status}`);
  const headers = (await answer.json()) as Header[];
  return new Map(headers.map((header) => [text(header, '00080018'), factsOf(header)]));
}

/** What is at the picture's left, right, top and bottom; empty where it is not known. */
export function sides(facts: Facts | undefined): { left: string; right: string; top: string; bottom: string } {
  const found = facts?.orientation;
  if (!found) return { left: '', right: '', top: '', bottom: '' };
  const row = found.slice(0, 3);
  const column = found.slice(3);
  const back = (way: number[]) => way.map((each) => -each);
  return { left: toward(back(row)), right: toward(row), top: toward(back(column)), bottom: toward(column) };
}

/** Letters of a direction in the patient, the nearest first (PS3.3, C.7.6.1.1.1). */
function toward(way: number[]): string {
  const letters = ['LR', 'PA', 'HF'];
  return way
    .map((part, axis) => ({ part: Math.abs(part), letter: letters[axis]![part > 0 ? 0 : 1]! }))
    .filter(({ part }) => part > 0.3)
    .sort((a, b) => b.part - a.part)
    .map(({ letter }) => letter)
    .slice(0, 2)
    .join('');
}

/** How far along its own normal a slice lies, mm. */
export function depth(facts: Facts | undefined): number | undefined {
  if (!facts?.orientation || !facts.position) return undefined;
  const [a, b, c, d, e, f] = facts.orientation as [number, number, number, number, number, number];
  const normal = [b * f - c * e, c * d - a * f, a * e - b * d];
  return normal.reduce((sum, each, axis) => sum + each * facts.position![axis]!, 0);
}

/** WADO-RS, one frame. */
export const frameUrl = ({ study, series, picture, frame }: Frame) =>
  `${study.dicomweb}/studies/${study.uid}/series/${series.uid}/instances/${picture.uid}/frames/${frame}`;
