/**
 * Frames as the engine loads them: the best that is here at once, and the frame as it was sent when
 * it has come. To the engine a frame keeps its name, so that what was drawn on a preview stays.
 */
import { type Types, type Enums, cache, imageLoader, metaData, utilities } from '@cornerstonejs/core';
import { type Facts, factsIn } from './facts';
import { type Pixels, pixelsOf, previewOf } from './pixels';
import { type Frame, isOf } from './study';

const SCHEME = 'lz';
const sources = new Map<string, Source>();

/** How good what is shown is: nothing yet, a picture made for a slow line, or the pixels as sent. */
export type Quality = 'none' | 'preview' | 'sent';

export class Source {
  readonly id: string;
  facts?: Facts;
  quality: Quality = 'none';
  /** Of `quality` preview: the one frame that it is of is another one. */
  standsIn = false;
  /** Asked for the frame as it was sent, and it could not be had; until something more arrives. */
  refused = false;
  /** The window, by the server's name, that previews are made through. */
  named = '';
  private image?: Promise<Types.IImage>;
  private pixels?: Pixels;
  private improving?: Promise<boolean>;

  constructor(public frame: Frame) {
    this.id = nameOf(frame);
  }

  get shown(): Pixels | undefined {
    return this.pixels;
  }

  /** Whether the frame as it was sent can be had. */
  get whole(): boolean {
    return this.frame.picture.whole && this.frame.study.dicomweb !== '';
  }

  /** Whether a picture of it can be shown at all. */
  get showable(): boolean {
    return this.quality === 'sent' || this.frame.picture.preview || this.whole;
  }

  load(): Promise<Types.IImage> {
    this.image ??= this.best().catch((error: unknown) => {
      this.image = undefined;
      drop(this.id);
      throw error;
    });
    return this.image;
  }

  private async best(): Promise<Types.IImage> {
    if (this.quality !== 'sent' && this.frame.picture.preview) {
      this.keep(await this.preview(), 'preview');
      this.standsIn = !isOf(this.frame);
    } else this.keep(await this.sent(), 'sent');
    return imageOf(this.id, this.pixels!, this.facts);
  }

  private async preview(): Promise<Pixels> {
    const range = this.frame.study.windows[this.named];
    if (range && this.frame.picture.modality === 'CT') {
      try {
        return await previewOf(this.frame, this.facts, { name: this.named, range });
      } catch {
        // Values are not here yet, or no Hounsfield units: as the modality would show it.
      }
    }
    return previewOf(this.frame, this.facts);
  }

  private async sent(): Promise<Pixels> {
    this.facts ??= await this.describe();
    if (!this.facts) throw new Error('no attributes yet');
    return pixelsOf(this.frame, this.facts);
  }

  private keep(pixels: Pixels, quality: Quality) {
    this.pixels = pixels;
    this.quality = quality;
    if (quality === 'sent') this.standsIn = false;
  }

  /** Attributes, when the image has come whole; `anew` after more has come. */
  async describe(anew = false): Promise<Facts | undefined> {
    if (!this.facts && this.whole) {
      const found = await factsIn(this.frame.study, this.frame.series, anew);
      this.facts = found.get(this.frame.picture.uid);
    }
    return this.facts;
  }

  /** Fetch the frame as it was sent: true when it has just come. */
  improve(): Promise<boolean> {
    if (this.quality === 'sent' || this.refused || !this.whole) return Promise.resolve(false);
    this.improving ??= this.sent()
      .then((pixels) => {
        this.keep(pixels, 'sent');
        this.renew();
        return true;
      })
      .catch(() => {
        this.refused = true;
        return false;
      })
      .finally(() => (this.improving = undefined));
    return this.improving;
  }

  /** Another window for a preview: true if it must be loaded again. */
  look(named: string): boolean {
    if (this.named === named) return false;
    this.named = named;
    if (this.quality !== 'preview') return false;
    this.image = undefined;
    drop(this.id);
    return true;
  }

  /** What is cached under its name is what it is now. */
  private renew() {
    this.image = Promise.resolve(imageOf(this.id, this.pixels!, this.facts));
    drop(this.id);
  }
}

/** The engine forgets an image; it says so loudly of one that it does not have. */
function drop(id: string) {
  if (cache.getImageLoadObject(id)) cache.removeImageLoadObject(id);
}

const nameOf = ({ picture, frame }: Frame) => `${SCHEME}:${picture.id}/${frame}`;

/** The one source of a frame, as it stands now. */
export function sourceOf(frame: Frame): Source {
  const found = sources.get(nameOf(frame)) ?? new Source(frame);
  found.frame = frame;
  sources.set(found.id, found);
  return found;
}

export function registerSources() {
  imageLoader.registerImageLoader(SCHEME, (id) => ({
    promise: sources.get(id)!.load(),
  }));
  metaData.addProvider((type, id) => (sources.has(id) ? describe(type, sources.get(id)!) : undefined), 10_000);
}

/** The engine reckons in pixels: what a pixel measures is our own business (measure.ts). */
function describe(type: string, source: Source): unknown {
  const colour = source.shown?.colour ?? false;
  switch (type) {
    case 'imagePlaneModule':
      return {
        rows: source.shown?.rows,
        columns: source.shown?.columns,
        rowCosines: [1, 0, 0],
        columnCosines: [0, 1, 0],
        imageOrientationPatient: [1, 0, 0, 0, 1, 0],
        imagePositionPatient: [0, 0, 0],
        rowPixelSpacing: 1,
        columnPixelSpacing: 1,
        frameOfReferenceUID: source.frame.series.uid,
        usingDefaultValues: false,
      };
    case 'imagePixelModule':
      return {
        bitsAllocated: colour ? 8 : 16,
        bitsStored: colour ? 8 : 16,
        highBit: colour ? 7 : 15,
        samplesPerPixel: colour ? 4 : 1,
        pixelRepresentation: colour ? 0 : 1,
        photometricInterpretation: colour ? 'RGB' : 'MONOCHROME2',
      };
    case 'generalSeriesModule':
      return { modality: source.frame.series.modality, seriesInstanceUID: source.frame.series.uid };
    default:
      return undefined;
  }
}

function imageOf(id: string, pixels: Pixels, facts: Facts | undefined): Types.IImage {
  const { rows, columns, values, colour } = pixels;
  const components = colour ? 4 : 1;
  const scalars = values as Types.PixelDataTypedArray;
  const [low, high] = colour ? [0, 255] : ends(values);
  const canvas = colour ? painted(pixels) : undefined;
  const [rowSpacing, columnSpacing] = facts?.spacing ?? [1, 1];
  return {
    imageId: id,
    rows,
    columns,
    height: rows,
    width: columns,
    minPixelValue: low,
    maxPixelValue: high,
    slope: 1,
    intercept: 0,
    windowCenter: pixels.window[0],
    windowWidth: pixels.window[1],
    voiLUTFunction: 'LINEAR' as Enums.VOILUTFunctionType,
    color: colour,
    rgba: colour,
    numberOfComponents: components,
    rowPixelSpacing: rowSpacing,
    columnPixelSpacing: columnSpacing,
    invert: pixels.invert,
    sizeInBytes: values.byteLength,
    dataType: values.constructor.name as Types.PixelDataTypedArrayString,
    getPixelData: () => scalars,
    getCanvas: () => canvas as HTMLCanvasElement,
    voxelManager: utilities.VoxelManager.createImageVoxelManager({
      width: columns,
      height: rows,
      scalarData: scalars,
      numberOfComponents: components,
      id,
    } as never) as never,
  };
}

function ends(values: Pixels['values']): [number, number] {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

function painted({ rows, columns, values }: Pixels): HTMLCanvasElement {
  const canvas = document.createElement('canvas');
  canvas.width = columns;
  canvas.height = rows;
  const data = new ImageData(new Uint8ClampedArray(values as Uint8ClampedArray<ArrayBuffer>), columns, rows);
  canvas.getContext('2d')!.putImageData(data, 0, 0);
  return canvas;
}
