/**
 * `<lz-vitals src="/patients/…/vitals.json" hours="12" subject="…">`: the trend of vital signs.
 * It is loaded anew when a reading of its subject came.
 */
import { html } from 'lit';
import uPlot from 'uplot';
import { Chart } from './lib/chart';
import { listen } from './lib/feed';
import { words } from './lib/words';

interface Trend {
  times: number[];
  columns: Record<string, (number | null)[]>;
  /** Where a line ends; elsewhere null says nothing of that parameter. */
  ends: Record<string, number[]>;
}

/** Parameter, colour of the page, whether it is drawn on the narrow scale of temperature, dashes. */
const SERIES = [
  ['pulse', 'hr', 'y', []],
  ['spo2', 'spo2', 'y', []],
  ['respiration', 'rr', 'y', []],
  ['systolic', 'bp', 'y', []],
  ['diastolic', 'dia', 'y', [7, 4]],
  ['temperature', 'temp', 'temperature', [2, 3]],
] as const;
/** Readings that lie closer together than this are not drawn out over the whole width. */
const LEAST_SECONDS = 30 * 60;
/** So few readings are points, and the chart says how few. */
const FEW = 3;
const AGAIN_MS = 5_000;

/** What the axis of time shows: from the first reading on, half an hour at least. */
function wide(_chart: uPlot, from: number, to: number): [number, number] {
  if (from === null) return [Date.now() / 1_000 - LEAST_SECONDS, Date.now() / 1_000];
  const more = Math.max((to - from) / 40, (LEAST_SECONDS - (to - from)) / 2);
  return [from - more, to + more];
}

class VitalsTrend extends Chart {
  static override properties = {
    ...Chart.properties,
    src: {},
    subject: {},
    hours: { type: Number },
    empty: { state: true },
    cut: { state: true },
  };
  declare src: string;
  declare subject: string;
  declare hours: number;
  declare empty: boolean;
  declare cut: boolean;

  private readonly say = words('signs');
  private few = false;
  private trend: Trend = { times: [], columns: {}, ends: {} };
  private stops: (() => void)[] = [];
  private waiting = 0;
  private rested = 0;

  constructor() {
    super();
    this.src = '';
    this.subject = '';
    this.hours = 12;
    this.empty = false;
    this.cut = false;
  }

  override connectedCallback() {
    super.connectedCallback();
    const kinds = [`vitals-${this.subject}`, 'reset'];
    this.stops = kinds.map((kind) => listen(kind, () => this.soon(this.pause())));
    void this.load();
  }

  override disconnectedCallback() {
    super.disconnectedCallback();
    for (const stop of this.stops) stop();
    window.clearTimeout(this.waiting);
    this.waiting = 0;
  }

  /** A device that streams rings each second: a tenth of the time, at most, goes into loading. */
  private pause(): number {
    return Math.max(300, this.rested - performance.now());
  }

  private soon(ms: number) {
    if (this.waiting) return;
    this.waiting = window.setTimeout(() => {
      this.waiting = 0;
      void this.load();
    }, ms);
  }

  private async load() {
    const begun = performance.now();
    try {
      const answer = await fetch(`${this.src}?hours=${this.hours}`, {
        headers: { 'Lz-Quiet': '1', Accept: 'application/json' },
      });
      if (!answer.ok) throw new Error(String(answer.status));
      this.trend = ((await answer.json()) as { trend: Trend }).trend;
      this.rested = performance.now() + 9 * (performance.now() - begun);
      this.empty = this.trend.times.length === 0;
      this.cut = false;
      const few = this.trend.times.length <= FEW;
      this.requestUpdate(); // what it says above the chart
      await this.updateComplete;
      if (few !== this.few) {
        this.few = few;
        this.draw();
      } else this.feed();
      // Nobody points at it: then it tells the newest values.
      if (!this.empty) window.setTimeout(() => this.chart?.setLegend({ idxs: this.newest() }));
    } catch {
      this.cut = true;
      this.soon(AGAIN_MS);
    }
  }

  /** For the time and for each series where its newest value is. */
  private newest(): number[] {
    const [times, ...columns] = this.columns();
    const last = (column: uPlot.AlignedData[number]) =>
      Array.from(column as ArrayLike<number | null | undefined>).findLastIndex((value) => value != null);
    return [times.length - 1, ...columns.map((column) => Math.max(0, last(column)))];
  }

  /** uPlot draws on over what is undefined, and ends a line at null. */
  private line(name: string): (number | null | undefined)[] {
    const values = this.trend.columns[name] ?? this.trend.times.map(() => null);
    const ends = new Set(this.trend.ends[name]);
    return values.map((value, at) => value ?? (ends.has(at) ? null : undefined));
  }

  protected override columns(): uPlot.AlignedData {
    const times = this.trend.times.map((ms) => ms / 1_000);
    return [times, ...SERIES.map(([name]) => this.line(name))];
  }

  protected override options() {
    const series = SERIES.map(([name, colour, scale, dash]) => ({
      label: this.say(name),
      scale,
      stroke: this.colour(colour),
      width: 2,
      dash: [...dash],
      spanGaps: false,
      points: { size: this.few ? 9 : 4, show: this.few || undefined },
    }));
    return {
      series: [{ label: this.say('time') }, ...series],
      // As all times of the pages: by the clinic's clock.
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1_000), 'Asia/Shanghai'),
      scales: { x: { range: wide }, y: { range: [0, 220] }, temperature: { range: [34, 42] } },
      legend: { show: true, live: true },
    } as Pick<uPlot.Options, 'series'> & Partial<uPlot.Options>;
  }

  override render() {
    const count = this.trend.times.length;
    const note = this.cut
      ? this.say('cut_off')
      : this.empty
        ? this.say('no_trend')
        : count && count <= FEW
          ? this.say('few', { count: String(count) })
          : '';
    return html`${note ? html`<p>${note}</p>` : ''}${super.render()}`;
  }
}

customElements.define('lz-vitals', VitalsTrend);
