/**
 * `<lz-viewer study="…">`: a study, to be read: one stack, or two beside each other. The picture of the server stands there at once; the engine, which is
 * most of a megabyte, comes when this page is open, and frames as they were sent when they have come.
 */
import { LitElement, html, nothing } from 'lit';
import { listen } from './lib/feed';
import { words } from './lib/words';
import type { Measurement, Pane, Tool } from './viewer/engine';
import { depth, sides } from './viewer/facts';
import type { Source } from './viewer/source';
import {
  type Frame,
  type Picture,
  type Series,
  type Study,
  beginning,
  framesOf,
  openStudy,
  previewUrl,
} from './viewer/study';

type Engine = typeof import('./viewer/load');

/** A stack and where it is shown. */
interface View {
  name: 'here' | 'prior';
  study: Study;
  series: Series;
  frames: Frame[];
  start: number;
  phase: 'waiting' | 'ready' | 'failed';
  pane?: Pane;
}

const TOOLS: Tool[] = ['scroll', 'window', 'zoom', 'pan', 'length', 'angle', 'roi'];
const SETTLE_MS = 2_000;
const CINE_RATE = 12;
const WHEEL_STEP = 50;
const DRAG_STEP = 8;

class Viewer extends LitElement {
  private readonly say = words('viewer');
  private study?: Study;
  private views: View[] = [];
  private active = 0;
  private tool: Tool = matchMedia('(pointer: coarse)').matches ? 'scroll' : 'window';
  private linked = true;
  private playing = 0;
  private engine?: Engine;
  private stops: (() => void)[] = [];
  private waiting = 0;
  private looked = -SETTLE_MS;
  private turned = 0;
  private drawing = 0;

  protected override createRenderRoot() {
    return this;
  }

  override connectedCallback() {
    const soon = () => this.soon();
    this.stops = [listen('imaging', soon), listen('reset', soon)];
    void this.begin();
    super.connectedCallback();
  }

  override disconnectedCallback() {
    super.disconnectedCallback();
    for (const stop of this.stops) stop();
    window.clearTimeout(this.waiting);
    this.play(false);
    for (const view of this.views) view.pane?.close();
  }

  private get view(): View | undefined {
    return this.views[this.active] ?? this.views[0];
  }

  // -- opening

  private async begin() {
    const loading = import('./viewer/load'); // at the same time
    loading.catch(() => undefined);
    try {
      this.started(await openStudy(this.getAttribute('study')!, 'opening'));
      await this.updateComplete;
      this.engine = await loading;
      for (const view of this.views) await this.open(view);
    } catch (error) {
      console.warn(error);
      for (const view of this.views) view.phase = 'failed';
    }
    this.requestUpdate();
  }

  /** The picture of the server has stood there until now. */
  private started(study: Study) {
    this.study = study;
    const size = (series: Series) => framesOf(study, series).length;
    const largest = [...study.series].sort((a, b) => size(b) - size(a))[0];
    if (largest) this.views = [viewOf('here', study, largest)];
    this.querySelector('img.first, p')?.remove();
    this.requestUpdate();
  }

  private async open(view: View) {
    const { engine } = this;
    const port = this.querySelector<HTMLDivElement>(`.pane.${view.name} .port`);
    if (!engine || !port || !view.frames.some(({ picture }) => picture.preview || picture.whole)) return;
    view.pane ??= new engine.Pane(view.name, port, () => this.redraw());
    view.pane.use(this.tool);
    try {
      const sources = view.frames.map(engine.sourceOf);
      await view.pane.open(sources, view.start);
      view.phase = 'ready';
    } catch {
      view.phase = 'failed'; // until more has come
    }
    this.requestUpdate();
  }

  /** Many events in a moment are two looks: at once, and after it. */
  private soon() {
    const since = performance.now() - this.looked;
    this.waiting ||= window.setTimeout(
      () => {
        this.waiting = 0;
        this.looked = performance.now();
        void this.refresh();
      },
      Math.max(0, SETTLE_MS - since),
    );
  }

  private async refresh() {
    for (const view of this.views) {
      try {
        await this.renew(view);
      } catch {
        // The line is cut; the feed says so, and tells when it is back.
      }
    }
    this.requestUpdate();
  }

  private async renew(view: View) {
    const fresh = await openStudy(view.study.id, '1');
    const series = fresh.series.find(({ uid }) => uid === view.series.uid) ?? view.series;
    const frames = framesOf(fresh, series);
    const more = arrived(view.series, series);
    const grown = frames.length !== view.frames.length || view.phase !== 'ready';
    const now = view.pane?.source?.frame;
    if (view.name === 'here') this.study = fresh;
    Object.assign(view, { study: fresh, series, frames });
    if (grown) {
      const place = frames.findIndex((one) => one.picture.id === now?.picture.id && one.frame === now?.frame);
      view.start = place < 0 ? beginning(frames) : place;
      await this.open(view);
    } else {
      frames.forEach((frame) => this.engine?.sourceOf(frame));
      await view.pane?.refresh(more);
    }
  }

  private async choose(view: View, series: Series) {
    this.play(false);
    Object.assign(view, viewOf(view.name, view.study, series), { pane: view.pane });
    await this.open(view);
  }

  private async compare(id: string) {
    this.play(false);
    this.views.splice(1).forEach((view) => view.pane?.close());
    this.active = 0;
    if (id) {
      const study = await openStudy(id, 'opening');
      const wanted = this.views[0]!.series;
      const series =
        study.series.find((one) => one.text === wanted.text && one.modality === wanted.modality) ??
        study.series.find((one) => one.modality === wanted.modality) ??
        study.series[0];
      if (series) this.views.push(viewOf('prior', study, series));
    }
    this.requestUpdate();
    await this.updateComplete;
    if (this.views[1]) {
      const leader = this.views[0]!;
      await this.open(this.views[1]);
      if (this.linked && leader.pane?.range) this.views[1].pane?.setWindow(leader.pane.range, leader.pane.named);
      this.follow(leader);
    }
  }

  // -- moving about

  private redraw() {
    if (this.drawing) return;
    this.drawing = requestAnimationFrame(() => {
      this.drawing = 0;
      this.requestUpdate();
    });
  }

  private go(view: View | undefined, index: number) {
    if (!view?.pane) return;
    void view.pane.show(index);
    this.follow(view);
  }

  private step(by: number, view = this.view) {
    if (view?.pane) this.go(view, view.pane.index + by);
  }

  /** The other stack shows what lies next to it in the patient; or as far along, if nobody knows. */
  private follow(leader: View) {
    const other = this.views.find((view) => view !== leader);
    const [from, to] = [leader.pane, other?.pane];
    if (!this.linked || !from || !to) return;
    const here = depth(from.source?.facts);
    const depths = to.sources.map(({ facts }) => depth(facts));
    if (here !== undefined && depths.every((each) => each !== undefined)) {
      const away = depths.map((each) => Math.abs(each - here));
      void to.show(away.indexOf(Math.min(...away)));
    } else {
      const part = from.index / Math.max(1, from.sources.length - 1);
      void to.show(Math.round(part * (to.sources.length - 1)));
    }
  }

  private each(work: (pane: Pane) => void) {
    for (const view of this.linked ? this.views : [this.view]) if (view?.pane) work(view.pane);
  }

  private preset(name: string) {
    const range = this.study?.windows[name];
    this.each((pane) => pane.setWindow(range, range ? name : ''));
  }

  private take(tool: Tool) {
    this.tool = tool;
    for (const { pane } of this.views) pane?.use(tool);
    this.requestUpdate();
  }

  private play(on: boolean) {
    window.clearTimeout(this.playing);
    this.playing = 0;
    const { view } = this;
    if (on && view?.pane) {
      const rate = view.pane.source?.facts?.rate ?? CINE_RATE;
      const pane = view.pane;
      const next = async () => {
        await pane.show((pane.index + 1) % pane.sources.length);
        if (this.playing) this.playing = window.setTimeout(next, 1000 / Math.min(60, rate));
      };
      this.playing = window.setTimeout(next, 0);
    }
    this.requestUpdate();
  }

  private async mark() {
    const frame = this.view?.pane?.source?.frame;
    if (!frame || !this.view?.study.marks) return;
    const keyed = !marked(frame);
    const answer = await fetch(`/studies/${frame.study.id}/${frame.picture.id}/key`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
      body: JSON.stringify({ frame: frame.frame, keyed }),
    });
    if (answer.ok) await this.renew(this.view);
    this.requestUpdate();
  }

  private readonly wheel = (event: WheelEvent) => {
    event.preventDefault();
    this.turned += event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 20 : 1);
    if (Math.abs(this.turned) < WHEEL_STEP) return;
    const by = Math.sign(this.turned);
    this.turned = 0;
    this.step(by, this.under(event));
  };

  private under(event: Event): View | undefined {
    const pane = (event.currentTarget as Element).closest('.pane');
    return this.views.find(({ name }) => pane?.classList.contains(name));
  }

  private readonly press = (event: PointerEvent) => {
    const view = this.under(event);
    if (view) this.active = this.views.indexOf(view);
    this.requestUpdate();
    if (this.tool !== 'scroll' || event.button !== 0 || !event.isPrimary) return;
    const port = event.currentTarget as HTMLElement;
    let from = event.clientY;
    const move = (moved: PointerEvent) => {
      const by = Math.trunc((moved.clientY - from) / DRAG_STEP);
      from += by * DRAG_STEP;
      if (by) this.step(by, view);
    };
    const end = () => port.removeEventListener('pointermove', move);
    port.addEventListener('pointermove', move);
    for (const kind of ['pointerup', 'pointercancel', 'pointerleave']) {
      port.addEventListener(kind, end, { once: true });
    }
  };

  private readonly key = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const view = this.under(event);
    if (view) this.active = this.views.indexOf(view);
    const done = this.pressed(event.key, event.shiftKey);
    if (done) event.preventDefault();
  };

  private pressed(key: string, shift: boolean): boolean {
    const pane = this.view?.pane;
    if (!pane) return false;
    const last = pane.sources.length - 1;
    const names = ['', ...Object.keys(this.study?.windows ?? {})];
    const way = { ArrowLeft: [-40, 0], ArrowRight: [40, 0], ArrowUp: [0, -40], ArrowDown: [0, 40] }[key];
    if (shift && way) pane.panBy(way[0]!, way[1]!);
    else if (key === 'ArrowDown' || key === 'ArrowRight') this.step(1);
    else if (key === 'ArrowUp' || key === 'ArrowLeft') this.step(-1);
    else if (key === 'PageDown') this.step(10);
    else if (key === 'PageUp') this.step(-10);
    else if (key === 'Home') this.go(this.view, 0);
    else if (key === 'End') this.go(this.view, last);
    else if (key === ' ') this.play(!this.playing);
    else if (key === '+' || key === '=') pane.zoomBy(1.25);
    else if (key === '-') pane.zoomBy(0.8);
    else if (key === '0') this.each((each) => each.fit());
    else if (key === 'k') void this.mark();
    else if (/^[1-9]$/.test(key) && Number(key) <= names.length) this.preset(names[Number(key) - 1]!);
    else return false;
    return true;
  }

  private typed(event: Event) {
    const form = (event.target as HTMLInputElement).form!;
    const [centre, width] = ['centre', 'width'].map((name) => Number(new FormData(form).get(name)));
    if (Number.isFinite(centre) && width! >= 1) this.each((pane) => pane.setWindow([centre!, width!]));
  }

  // -- what is seen

  override render() {
    const { study, view } = this;
    if (!study) return nothing;
    if (!view) return html`<p class="quiet">${this.say('none')}</p>`;
    return html`
      ${this.bar(study, view)}
      <div class="panes">${this.views.map((each, at) => this.pane(each, at === this.active))}</div>
      ${this.travel(view)} ${this.keys(view)} ${this.measured(view)} ${this.strip(view)}
      <details class="small">
        <summary>${this.say('help')}</summary>
        <p class="quiet">${this.say('help_text')}</p>
      </details>
    `;
  }

  private bar(study: Study, view: View) {
    const ready = view.phase === 'ready';
    const ct = view.series.modality === 'CT';
    const names = ct ? ['', ...Object.keys(study.windows)] : [''];
    const now = view.pane?.named ?? '';
    const chosen = view.pane?.range !== undefined;
    const [centre, width] = view.pane?.window ?? [0, 0];
    return html`<div class="bar" role="toolbar" aria-label=${this.say('tools')}>
      <span class="group">
        ${TOOLS.map(
          (tool) => html`<button
            type="button"
            aria-pressed=${String(this.tool === tool)}
            ?disabled=${!ready}
            @click=${() => this.take(tool)}
          >
            ${this.say(tool)}
          </button>`,
        )}
      </span>
      <span class="group">
        ${names.map(
          (name) => html`<button
            type="button"
            aria-pressed=${String(name ? now === name : !chosen)}
            ?disabled=${!ready}
            @click=${() => this.preset(name)}
          >
            ${this.say(name || 'own')}
          </button>`,
        )}
        ${view.pane?.speaks
          ? html`<form class="typed" @change=${this.typed} @submit=${(event: Event) => event.preventDefault()}>
              <label>${this.say('centre')} <input name="centre" type="number" step="1" .value=${String(Math.round(centre))} /></label>
              <label>${this.say('width')} <input name="width" type="number" min="1" step="1" .value=${String(Math.round(width))} /></label>
            </form>`
          : nothing}
      </span>
      <span class="group">
        <button type="button" ?disabled=${!ready} aria-label=${this.say('zoom_out')} @click=${() => view.pane?.zoomBy(0.8)}>−</button>
        <button type="button" ?disabled=${!ready} aria-label=${this.say('zoom_in')} @click=${() => view.pane?.zoomBy(1.25)}>+</button>
        <button type="button" ?disabled=${!ready} @click=${() => this.each((pane) => pane.fit())}>${this.say('fit')}</button>
      </span>
      ${study.priors.length
        ? html`<span class="group">
            <label>${this.say('compare')}
              <select @change=${(event: Event) => void this.compare((event.target as HTMLSelectElement).value)}>
                <option value="">${this.say('alone')}</option>
                ${study.priors.map(({ id, title }) => html`<option value=${id}>${title}</option>`)}
              </select>
            </label>
            ${this.views.length > 1
              ? html`<label class="check"
                  ><input type="checkbox" .checked=${this.linked} @change=${() => (this.linked = !this.linked)} />
                  ${this.say('linked')}</label
                >`
              : nothing}
          </span>`
        : nothing}
    </div>`;
  }

  private pane(view: View, active: boolean) {
    const { pane } = view;
    const first = view.frames[view.start];
    const side = sides(pane?.source?.facts);
    const ready = view.phase === 'ready';
    return html`<section
      class="pane ${view.name}"
      ?data-active=${active && this.views.length > 1}
      aria-label=${view.study.title}
      data-phase=${view.phase}
      data-quality=${pane?.source?.quality ?? 'none'}
    >
      <div
        class="port"
        tabindex="0"
        role="application"
        aria-label=${this.say('port', { title: view.study.title })}
        @wheel=${this.wheel}
        @pointerdown=${this.press}
        @keydown=${this.key}
        @contextmenu=${(event: Event) => event.preventDefault()}
      ></div>
      ${ready || !first?.picture.preview
        ? nothing
        : html`<img class="first" src=${previewUrl(first)} alt=${view.study.title} />`}
      <div class="corner north west">${view.study.title}<br />${seriesText(view.series)}</div>
      <div class="corner north east">${this.number(view)}<br />${this.quality(view)}</div>
      <div class="corner south west">${this.values(view)}</div>
      ${ready ? this.ruler(view) : nothing}
      ${(['left', 'right', 'top', 'bottom'] as const).map((where) =>
        side[where] && ready ? html`<span class="side" data-at=${where} aria-hidden="true">${side[where]}</span>` : nothing,
      )}
    </section>`;
  }

  private number(view: View) {
    const index = view.pane?.index ?? view.start;
    return this.say('place', { at: String(index + 1), all: String(view.frames.length) });
  }

  private quality(view: View) {
    if (view.phase === 'failed') return html`<strong class="bad">${this.say('failed')}</strong>`;
    const source = view.pane?.source;
    if (view.phase === 'waiting' || !source || source.quality === 'none') {
      return html`<span>${this.say(source && !source.showable ? 'coming' : 'loading')}</span>`;
    }
    if (source.quality === 'preview') {
      return html`<strong class="lossy">${this.say(source.standsIn ? 'stands_in' : 'preview')}</strong>`;
    }
    if (source.facts?.lossy || source.frame.picture.syntax === '1.2.840.10008.1.2.4.50') {
      return html`<strong class="lossy">${this.say('lossy')}</strong>`;
    }
    return html`<span class="sent">${this.say('lossless')}</span>`;
  }

  private values(view: View) {
    const { pane } = view;
    if (!pane || view.phase !== 'ready') return nothing;
    const [centre, width] = pane.window;
    const unit = pane.source?.facts?.hounsfield ? ' HU' : '';
    return html`${pane.speaks
        ? html`${this.say('window_now', { centre: String(Math.round(centre)), width: String(Math.round(width)), unit })}<br />`
        : nothing}${this.say('zoom_now', { zoom: pane.zoom.toFixed(1) })}`;
  }

  /** How long a round number of millimetres is here; nothing where nobody knows. */
  private ruler(view: View) {
    const spacing = view.pane?.source?.facts?.spacing ?? regionSpacing(view.pane?.source);
    if (!spacing || !view.pane) return nothing;
    const millimetre = view.pane.scale / spacing[1];
    const length = [1, 2, 5, 10, 20, 50, 100, 200].findLast((each) => each * millimetre <= 130);
    if (!length) return nothing;
    return html`<svg class="ruler" width=${Math.ceil(length * millimetre) + 2} height="26" aria-hidden="true">
      <path d=${`M1 14v10h${length * millimetre}v-10`} />
      <text x="4" y="12">${length} mm</text>
    </svg>`;
  }

  private travel(view: View) {
    const pane = view.pane;
    const index = pane?.index ?? view.start;
    const frame = pane?.source?.frame ?? view.frames[index];
    const keyed = frame && marked(frame);
    return html`<div class="travel">
      <button type="button" ?disabled=${!pane || view.frames.length < 2} @click=${() => this.play(!this.playing)}>
        ${this.say(this.playing ? 'pause' : 'play')}
      </button>
      <input
        type="range"
        min="0"
        max=${Math.max(0, view.frames.length - 1)}
        .value=${String(index)}
        aria-label=${this.say('slice')}
        ?disabled=${view.frames.length < 2}
        @input=${(event: Event) => this.go(view, Number((event.target as HTMLInputElement).value))}
      />
      <output>${index + 1} / ${view.frames.length}</output>
      ${frame?.picture.whole
        ? html`<a class="small" href="/studies/${frame.study.id}/${frame.picture.id}/original">${this.say('original')} ${frame.picture.number ?? index + 1}</a>`
        : nothing}
      ${view.study.marks
        ? html`<button type="button" class="key" aria-pressed=${String(keyed)} ?disabled=${!pane} @click=${() => void this.mark()}>
            ${this.say(keyed ? 'unmark' : 'mark')}
          </button>`
        : nothing}
    </div>`;
  }

  private keys(view: View) {
    const found = view.study.series.flatMap((series) =>
      framesOf(view.study, series).flatMap((frame) =>
        frame.picture.keys.filter((key) => key.frame === frame.frame).map((key) => ({ frame, key })),
      ),
    );
    if (!found.length) return nothing;
    return html`<section class="keyed" aria-label=${this.say('keys')}>
      <h2>${this.say('keys')}</h2>
      <ul>
        ${found.map(
          ({ frame, key }) => html`<li>
            <button type="button" @click=${() => void this.visit(view, frame)}>${this.named(frame)}</button>
            <span class="small quiet">${key.name}</span>
          </li>`,
        )}
      </ul>
    </section>`;
  }

  private async visit(view: View, { series, picture, frame }: Frame) {
    if (series.uid !== view.series.uid) await this.choose(view, view.study.series.find(({ uid }) => uid === series.uid)!);
    this.go(view, view.frames.findIndex((one) => one.picture.id === picture.id && one.frame === frame));
  }

  private named({ series, picture, frame }: Frame) {
    const parts = [series.modality, series.number === null ? '' : this.say('series_number', { number: String(series.number) })];
    parts.push(this.say('image_number', { number: String(picture.number ?? 0) }));
    if (picture.frames > 1) parts.push(this.say('frame_number', { number: String(frame) }));
    return parts.filter(Boolean).join(' ');
  }

  private measured(view: View) {
    const found = view.pane?.measurements() ?? [];
    if (!found.length || !this.engine) return nothing;
    const { said } = this.engine;
    return html`<section class="measured" aria-label=${this.say('measurements')}>
      <h2>${this.say('measurements')}</h2>
      <ul>
        ${found.map(
          (one: Measurement) => html`<li>
            <button type="button" @click=${() => this.go(view, view.pane!.sources.indexOf(one.source))}>
              ${this.named(one.source.frame)}
            </button>
            <span>${said(one.measured).join(' · ')}</span>
            ${one.measured.area && !one.measured.values && one.source.quality !== 'sent'
              ? html`<span class="small quiet">${this.say('no_values')}</span>`
              : nothing}
            <button type="button" class="plain" @click=${() => view.pane!.forget(one.id)}>${this.say('forget')}</button>
          </li>`,
        )}
      </ul>
    </section>`;
  }

  private strip(view: View) {
    if (view.study.series.length < 2) return nothing;
    return html`<ul class="series" aria-label=${this.say('series')}>
      ${view.study.series.map((series) => {
        const frames = framesOf(view.study, series);
        const cover = frames[beginning(frames)];
        return html`<li>
          <button type="button" aria-pressed=${String(series.uid === view.series.uid)} @click=${() => void this.choose(view, series)}>
            ${cover?.picture.preview ? html`<img loading="lazy" src=${previewUrl(cover)} alt="" />` : nothing}
            <span>${seriesText(series)} · ${frames.length}</span>
          </button>
        </li>`;
      })}
    </ul>`;
  }
}

function viewOf(name: View['name'], study: Study, series: Series): View {
  const frames = framesOf(study, series);
  return { name, study, series, frames, start: beginning(frames), phase: 'waiting' };
}

/** Whether images are whole now that were not. */
function arrived(before: Series, after: Series): boolean {
  const whole = (pictures: Picture[]) => pictures.filter((picture) => picture.whole).length;
  return whole(after.pictures) > whole(before.pictures);
}

const marked = ({ picture, frame }: Frame) => picture.keys.some((key) => key.frame === frame);

const seriesText = (series: Series) => [series.number ?? '', series.modality, series.text].filter(Boolean).join(' ');

function regionSpacing(source: Source | undefined): [number, number] | undefined {
  const regions = source?.facts?.regions ?? [];
  return regions.length === 1 ? [regions[0]!.dy, regions[0]!.dx] : undefined;
}

customElements.define('lz-viewer', Viewer);
