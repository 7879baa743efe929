/** A study as the server describes it to the viewer (lianzhen_runtime/web/viewing.py). */

/** An image: its key here, its SOP Instance UID, and what is to be had of it. */
export interface Picture {
  id: string;
  uid: string;
  number: number | null;
  frames: number;
  rows: number;
  columns: number;
  modality: string;
  syntax: string;
  /** A JPEG of its middle frame is here. */
  preview: boolean;
  /** Of a cine its preview has so many frames, evenly over all. */
  cine: number;
  /** Its pixels as they were sent are here. */
  whole: boolean;
  /** Frames that were marked, and by whom. */
  keys: { frame: number; name: string }[];
}

export interface Series {
  uid: string;
  number: number | null;
  text: string;
  modality: string;
  pictures: Picture[];
}

export interface Study {
  id: string;
  uid: string;
  title: string;
  series: Series[];
  /** Other studies of the same patient that this reader may see, the newest first. */
  priors: { id: string; title: string }[];
  /** Whether this reader may mark key images. */
  marks: boolean;
  /** Centre and width in Hounsfield units, by name. */
  windows: Record<string, [number, number]>;
  /** Where DICOMweb begins. */
  dicomweb: string;
}

/** One frame of an image, in its place in a stack. */
export interface Frame {
  study: Study;
  series: Series;
  picture: Picture;
  /** From 1. */
  frame: number;
}

export function framesOf(study: Study, series: Series): Frame[] {
  return series.pictures.flatMap((picture) =>
    Array.from({ length: Math.max(1, picture.frames) }, (_, at) => ({
      study,
      series,
      picture,
      frame: at + 1,
    })),
  );
}

/** Which of a cine's frames in its preview is nearest before a frame, and whether it is that frame. */
function inPreview({ picture, frame }: Frame): { number: number; exact: boolean } {
  const number = Math.floor(((frame - 1) * picture.cine) / picture.frames);
  return { number, exact: Math.floor((number * picture.frames) / picture.cine) === frame - 1 };
}

/** Whether the preview is of just this frame. */
export function isOf(frame: Frame): boolean {
  const { picture } = frame;
  if (picture.frames < 2) return true;
  return picture.cine ? inPreview(frame).exact : frame.frame === (picture.frames >> 1) + 1;
}

/** Where a reader begins: in the middle, or at the frame with a picture that is next to it. */
export function beginning(frames: Frame[]): number {
  const centre = frames.length >> 1;
  for (let away = 0; away <= centre; away++) {
    for (const at of [centre - away, centre + away]) {
      const found = frames[at];
      if (found?.picture.preview || found?.picture.whole) return at;
    }
  }
  return centre;
}

export function previewUrl(frame: Frame, window = ''): string {
  const url = `/studies/${frame.study.id}/${frame.picture.id}/preview`;
  if (window) return `${url}?window=${window}`;
  return frame.picture.cine ? `${url}?frame=${inPreview(frame).number}` : url;
}

/** `quiet`: `opening` where a person opens it, `1` where the page looks again by itself. */
export async function openStudy(id: string, quiet: 'opening' | '1'): Promise<Study> {
  const headers = { Accept: 'application/json', 'Lz-Quiet': quiet };
  const answer = await fetch(`/studies/${id}/series`, { headers });
  if (!answer.ok) throw new Error(`series: HTTP ${answer.status}`);
  return ((await answer.json()) as { study: Study }).study;
}
