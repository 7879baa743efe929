/**
 * What is measured, from points in pixels: lengths have a unit only where the size of a pixel is
 * known, values one only where they are Hounsfield units, and no value is told of a preview.
 */
import { type Point, spacingAt } from './facts';
import type { Source } from './source';

export interface Measured {
  /** mm, or pixels without a known size. */
  length?: { value: number; unit: 'mm' | 'px' };
  /** Degrees. */
  angle?: number;
  area?: { value: number; unit: 'mm²' | 'px²' };
  values?: { mean: number; deviation: number; least: number; most: number; unit: 'HU' | '' };
}

export function lengthOf(source: Source, points: Point[]): Measured {
  const [from, to] = points as [Point, Point];
  const spacing = spacingAt(source.facts, points);
  const [row, column] = spacing ?? [1, 1];
  const value = Math.hypot((to[0] - from[0]) * column, (to[1] - from[1]) * row);
  return { length: { value, unit: spacing ? 'mm' : 'px' } };
}

export function angleOf(source: Source, points: Point[]): Measured {
  const [from, corner, to] = points;
  if (!from || !corner || !to) return {}; // one leg of it is drawn
  // In an anisotropic picture of unknown size an angle is that of the screen.
  const [row, column] = spacingAt(source.facts, points) ?? [1, 1];
  const way = (end: Point) => [(end[0] - corner[0]) * column, (end[1] - corner[1]) * row] as const;
  const [[ax, ay], [bx, by]] = [way(from), way(to)];
  const turn = Math.atan2(ax * by - ay * bx, ax * bx + ay * by);
  return { angle: (Math.abs(turn) * 180) / Math.PI };
}

/** An ellipse by its lowest, highest, leftmost and rightmost point. */
export function ellipseOf(source: Source, points: Point[]): Measured {
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const [left, right] = [Math.min(...xs), Math.max(...xs)];
  const [top, bottom] = [Math.min(...ys), Math.max(...ys)];
  const radii = { x: (right - left) / 2, y: (bottom - top) / 2 };
  const spacing = spacingAt(source.facts, points);
  const [row, column] = spacing ?? [1, 1];
  const area = { value: Math.PI * radii.x * column * radii.y * row, unit: spacing ? 'mm²' : 'px²' } as const;
  const values = statistics(source, left + radii.x, top + radii.y, radii);
  return values ? { area, values } : { area };
}

/** Over the pixels whose centres lie in the ellipse; the first pixel reaches from 0 to 1. */
function statistics(source: Source, x: number, y: number, radii: { x: number; y: number }): Measured['values'] {
  const pixels = source.shown;
  if (!pixels?.exact || pixels.colour || !radii.x || !radii.y) return undefined;
  let [count, sum, squares, least, most] = [0, 0, 0, Infinity, -Infinity];
  const last = { x: Math.min(pixels.columns, x + radii.x), y: Math.min(pixels.rows, y + radii.y) };
  for (let row = Math.max(0, Math.floor(y - radii.y)); row < last.y; row++) {
    for (let column = Math.max(0, Math.floor(x - radii.x)); column < last.x; column++) {
      if (((column + 0.5 - x) / radii.x) ** 2 + ((row + 0.5 - y) / radii.y) ** 2 > 1) continue;
      const value = pixels.values[row * pixels.columns + column]!;
      count += 1;
      sum += value;
      squares += value * value;
      least = Math.min(least, value);
      most = Math.max(most, value);
    }
  }
  if (!count) return undefined;
  const mean = sum / count;
  const deviation = Math.sqrt(Math.max(0, squares / count - mean * mean));
  return { mean, deviation, least, most, unit: source.facts?.hounsfield ? 'HU' : '' };
}

/** Lines of text: on the picture and in the list. */
export function said(measured: Measured): string[] {
  const found: string[] = [];
  const { length, angle, area, values } = measured;
  if (length) found.push(`${length.value.toFixed(1)} ${length.unit}`);
  if (angle !== undefined) found.push(`${angle.toFixed(1)}°`);
  if (area) found.push(`${area.value.toFixed(0)} ${area.unit}`);
  if (values) {
    const unit = values.unit && ` ${values.unit}`;
    found.push(`${values.mean.toFixed(1)} ± ${values.deviation.toFixed(1)}${unit}`);
    found.push(`${values.least.toFixed(0)} … ${values.most.toFixed(0)}${unit}`);
  }
  return found;
}
